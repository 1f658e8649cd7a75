/** Random programs without meaning: operators of all three streams that wait for each other, and what they cost. */
import fc from "fast-check";
import type { Stream } from "../src/program/operator.js";
import type { Program } from "../src/program/program.js";
import type { Schedule } from "../src/program/schedule.js";
import { graphOf } from "../src/program/graph.js";
import { orderByStream } from "../src/schedule/sequential.js";
import { madeUpProgram } from "./operators.js";

export interface Job {
  readonly stream: Stream;
  /** Earlier operators that it waits for. */
  readonly waitsFor: readonly number[];
  readonly ms: number;
}

export interface MadeUp {
  readonly program: Program;
  /** Milliseconds by operator id. */
  readonly cost: Float64Array;
}

/** Operator i writes value i, and reads what it waits for. */
export function madeUp(jobs: readonly Job[]): MadeUp {
  const program = madeUpProgram(
    jobs.map(({ stream, waitsFor }, id) => ({ stream, reads: waitsFor, writes: [id] })),
  );
  return { program, cost: Float64Array.from(jobs, ({ ms }) => ms) };
}

/** @param ms what an operator may cost */
export function randomProgram(
  maxLength: number,
  ms: fc.Arbitrary<number>,
  streams: readonly Stream[] = ["compute", "compute", "network", "storage"],
): fc.Arbitrary<MadeUp> {
  const job = fc.record({
    stream: fc.constantFrom(...streams),
    waitsFor: fc.array(fc.nat(), { maxLength: 3 }),
    ms,
  });
  return fc.array(job, { minLength: 1, maxLength }).map((jobs) =>
    madeUp(
      jobs.map((of, id) => ({
        ...of,
        waitsFor: [...new Set(id === 0 ? [] : of.waitsFor.map((n) => n % id))],
      })),
    ),
  );
}

/** A legal schedule: operators one after another in an order that numbers choose. */
export function randomSchedule({ program }: MadeUp, choices: readonly number[]): Schedule {
  const { before } = graphOf(program);
  const done = new Set<number>();
  while (done.size < before.length) {
    const ready = [...before.keys()].filter((id) => !done.has(id) && before[id].every((b) => done.has(b)));
    done.add(ready[choices[done.size % choices.length] % ready.length]);
  }
  return { policy: "random", order: orderByStream(program, [...done]), edges: [], note: "" };
}

export const choices = fc.array(fc.nat(), { minLength: 1, maxLength: 24 });
