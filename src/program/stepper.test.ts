import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { choices, madeUp, randomProgram, randomSchedule } from "../../test/random-program.js";
import { graphOf } from "./graph.js";
import { STREAMS } from "./operator.js";
import { Stepper, stepsOf } from "./stepper.js";

const { program } = madeUp([
  { stream: "compute", waitsFor: [], ms: 1 },
  { stream: "network", waitsFor: [0], ms: 1 },
  { stream: "storage", waitsFor: [0], ms: 1 },
  { stream: "compute", waitsFor: [0], ms: 1 },
  { stream: "compute", waitsFor: [1, 2], ms: 1 },
  { stream: "network", waitsFor: [], ms: 1 },
]);
const order = { compute: [0, 3, 4], network: [1, 5], storage: [2] };
const schedule = { order, edges: [[3, 2]] as const };
const startable = (stepper: Stepper, rank?: number) =>
  STREAMS.map((stream) => stepper.startable(stream, rank));

describe("Stepper", () => {
  it("starts an operator at its turn when all it waits for has finished", () => {
    const stepper = new Stepper(stepsOf(program, schedule));
    // Operator 5 waits for nothing, but it is not its turn.
    expect(startable(stepper)).toEqual([0, undefined, undefined]);
    expect(stepper.head("network")).toBe(1);
    stepper.start(0);
    expect(startable(stepper)).toEqual([undefined, undefined, undefined]);
    stepper.finish(0);
    // Storage waits for the edge from operator 3.
    expect(startable(stepper)).toEqual([3, 1, undefined]);
    expect(blockedBy(stepper, 2)).toEqual([3]);
    stepper.start(1);
    expect(startable(stepper)).toEqual([3, 5, undefined]);
    stepper.start(5);
    stepper.start(3);
    stepper.finish(3);
    expect(startable(stepper)).toEqual([undefined, undefined, 2]);
    stepper.start(2);
    expect(STREAMS.map((stream) => stepper.head(stream))).toEqual([4, undefined, undefined]);
    // They finish in any order.
    stepper.finish(5);
    stepper.finish(2);
    expect(blockedBy(stepper, 4)).toEqual([1]);
    expect([stepper.isStarted(1), stepper.isFinished(1), stepper.isStarted(4)]).toEqual([true, false, false]);
    stepper.finish(1);
    expect(stepper.finished).toBe(5);
    expect(stepper.isDone).toBe(false);
    stepper.start(4);
    stepper.finish(4);
    expect(stepper.isDone).toBe(true);
  });

  it("keeps ranks apart, and what never moves together", () => {
    const steps = stepsOf(program, schedule);
    expect(stepsOf(program, schedule)).toBe(steps);
    expect(stepsOf({ ...program }, schedule)).not.toBe(steps);
    const stepper = new Stepper(steps, 2);
    stepper.start(0, 1);
    stepper.finish(0, 1);
    expect(startable(stepper, 0)).toEqual([0, undefined, undefined]);
    expect(startable(stepper, 1)).toEqual([3, 1, undefined]);
    expect(new Stepper(steps).startable("compute")).toBe(0);
  });

  it("refuses a driver that starts too early or finishes twice", () => {
    const stepper = new Stepper(stepsOf(program, schedule));
    expect(() => stepper.start(1)).toThrow(/all it waits for has finished/);
    expect(() => stepper.start(5)).toThrow(/its turn/);
    expect(() => stepper.finish(0)).toThrow(/after it has started/);
    stepper.start(0);
    stepper.finish(0);
    expect(() => stepper.finish(0)).toThrow(/finishes once/);
    expect(() => stepper.start(0)).toThrow(/its turn/);
  });

  it("lets every walk through a legal schedule come to its end, and start nothing early", () => {
    const any = fc.integer();
    fc.assert(
      fc.property(randomProgram(24, any), choices, choices, (random, toOrder, toWalk) => {
        const { before } = graphOf(random.program);
        const legal = randomSchedule(random, toOrder);
        const stepper = new Stepper(stepsOf(random.program, legal));
        const started: number[] = [];
        const finished: number[] = [];
        for (let i = 0; !stepper.isDone; i++) {
          const ready = STREAMS.flatMap((stream) => stepper.startable(stream) ?? []);
          const running = started.filter((id) => !finished.includes(id));
          const at = toWalk[i % toWalk.length] % (ready.length + running.length);
          if (at < ready.length) {
            expect(blockedBy(stepper, ready[at])).toEqual([]);
            for (const earlier of before[ready[at]]) expect(finished).toContain(earlier);
            started.push(ready[at]);
            stepper.start(ready[at]);
          } else {
            finished.push(running[at - ready.length]);
            stepper.finish(running[at - ready.length]);
          }
        }
        for (const stream of STREAMS)
          expect(started.filter((id) => random.program.operators[id].stream === stream)).toEqual(
            legal.order[stream],
          );
      }),
      { seed: 7, numRuns: 200 },
    );
  });
});

/** Unfinished operators that an operator waits for beside its place in the stream. */
function blockedBy(stepper: Stepper, id: number): number[] {
  return stepper.steps.before[id].filter((earlier) => !stepper.isFinished(earlier));
}
