/** Random programs, fused: the same bits, and the same transfers waited for. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { filled } from "../../test/engines.js";
import {
  Bench,
  NUM_WEIGHTS,
  ROWS,
  WIDTH,
  actions,
  mix,
  namesOf,
  servicesOf,
} from "../../test/made-up-kernels.js";
import { choices, randomSchedule } from "../../test/random-program.js";
import { createReferenceEngine } from "../../test/reference/engine.js";
import type { Tensor } from "../core/tensor.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { simulate } from "../simulate/simulate.js";
import { type FuseOptions, type FusedProgram, fuseKernels } from "./fuse.js";
import { Ancestors } from "./graph.js";
import type { Program } from "./program.js";
import type { Schedule } from "./schedule.js";
import { stepsOf } from "./stepper.js";
import { whyIllegal } from "./validate.js";

const job = fc.record({
  kind: fc.constantFrom("affine", "affine", "mix", "mix", "sum", "encode", "transfer", "statistics"),
  reads: fc.array(fc.nat(), { minLength: 3, maxLength: 3 }),
  weight: fc.nat(NUM_WEIGHTS - 1),
  ms: fc.integer({ min: 1, max: 9 }),
});
type Job = typeof job extends fc.Arbitrary<infer J> ? J : never;

function programOf(jobs: readonly Job[]): Program {
  const bench = new Bench();
  const values = [bench.input];
  const computed = [bench.input];
  jobs.forEach(({ kind, reads, weight }, i) => {
    const name = `${kind}${i}`;
    // A transfer that waits for a transfer alone starts when the compute stream has a moment: that is another question.
    const of = kind === "statistics" ? computed : values;
    const [a, b, c] = reads.map((n) => of[n % of.length]);
    const made =
      kind === "affine"
        ? [bench.affine(name, a, weight)]
        : kind === "mix"
          ? Object.values(bench.kernel(name, mix, { a, b }))
          : kind === "sum"
            ? [bench.sum(name, weight === 0 ? [a, b] : [a, b, c])]
            : [bench.opaque(name, kind, [a, b])];
    values.push(...made);
    if (kind !== "statistics" && kind !== "transfer") computed.push(...made);
  });
  return bench.program;
}
const jobs = fc.array(job, { minLength: 1, maxLength: 24, size: "max" });

describe("a fused program of any operators", () => {
  const engine = createReferenceEngine();
  const services = servicesOf(engine);
  const given = filled(engine.newArena(2 ** 12, "tensors"), "x", [ROWS, WIDTH]);
  const contents = (program: Program, input: number, keep: readonly number[]): (readonly number[])[] => {
    const run = new Session(services, program, { keep, actions }).run(
      sequential(program),
      new Map([[input, given]]),
    );
    const found = keep.map((value) => [...run.read<Tensor<Float32Array>>(value).data]);
    run.release();
    expect(services.memory.liveBytes).toBe(0);
    return found;
  };

  /** What has to be true of any fused program, and what it is in the new ids. */
  function expectSound(program: Program, options: FuseOptions): FusedProgram {
    const fused = fuseKernels(program, options);
    fused.program.operators.forEach(({ id, after }, at) => {
      expect(id).toBe(at);
      for (const earlier of after) expect(earlier).toBeLessThan(id);
    });
    fused.program.values.forEach(({ id }, at) => expect(id).toBe(at));
    expect(whyIllegal(fused.program, sequential(fused.program))).toBeUndefined();
    expect(new Set(namesOf(fused)).size).toBe(fused.program.operators.length);
    return fused;
  }

  const waitsOf = (program: Program, schedule: Schedule = { ...sequential(program), edges: [] }): Ancestors =>
    new Ancestors({ before: stepsOf(program, schedule).before, after: [] });

  /** Every operator waits for the transfers that it waited for, and every transfer for the operators. */
  function expectSameWaits(program: Program, fused: FusedProgram, schedule?: Schedule): void {
    const { operators } = fused;
    const before = waitsOf(program, schedule);
    const now = waitsOf(fused.program, fused.schedule);
    for (const transfer of program.operators.filter(({ kind }) => kind === "statistics"))
      for (const { id, name } of program.operators) {
        const [t, i] = [operators[transfer.id], operators[id]];
        expect(now.has(i, t), `${name} waits for ${transfer.name}`).toBe(before.has(id, transfer.id));
        expect(now.has(t, i), `${transfer.name} waits for ${name}`).toBe(before.has(transfer.id, id));
      }
  }

  it("gives every value that is wanted or that nobody reads, bit for bit", () => {
    let numFused = 0;
    fc.assert(
      fc.property(jobs, fc.array(fc.nat(), { maxLength: 3 }), fc.nat(40), (list, picks, maxWeightBytes) => {
        const program = programOf(list);
        const read = new Set(program.operators.flatMap(({ reads }) => reads));
        const written = program.operators.flatMap(({ writes }) => writes);
        const keep = picks.map((n) => written[n % written.length]);
        const fused = expectSound(program, { keep, maxWeightBytes });
        expectSameWaits(program, fused);
        numFused += program.operators.length - fused.program.operators.length;
        const wanted = [...keep, ...written.filter((value) => !read.has(value))];
        const to = (value: number): number => fused.values.get(value) as number;
        const input = program.values.findIndex(({ name }) => name === "input");
        expect(contents(fused.program, to(input), wanted.map(to))).toEqual(contents(program, input, wanted));
      }),
      { numRuns: 80, seed: 3 },
    );
    expect(numFused).toBeGreaterThan(200);
  });

  it("runs under the schedule that it was fused for as long as the original does", () => {
    let numFused = 0;
    fc.assert(
      fc.property(jobs, choices, fc.boolean(), (list, chosen, inProgramOrder) => {
        const program = programOf(list);
        const cost = Float64Array.from(list, ({ ms }) => ms);
        const schedule = inProgramOrder ? sequential(program) : randomSchedule({ program, cost }, chosen);
        const fused = expectSound(program, { schedule });
        expectSameWaits(program, fused, schedule);
        numFused += program.operators.length - fused.program.operators.length;
        const translated = fused.schedule as NonNullable<FusedProgram["schedule"]>;
        expect(whyIllegal(fused.program, translated)).toBeUndefined();
        const total = new Float64Array(fused.program.operators.length);
        cost.forEach((ms, id) => (total[fused.operators[id]] += ms));
        const [before, now] = [
          simulate(program, schedule, { costs: [({ id }) => cost[id]] }),
          simulate(fused.program, translated, { costs: [({ id }) => total[id]] }),
        ];
        expect(now.summary.stepMs).toBe(before.summary.stepMs);
        expect(now.summary.exposedMs).toBe(before.summary.exposedMs);
      }),
      { numRuns: 150, seed: 4 },
    );
    expect(numFused).toBeGreaterThan(100);
  });
});
