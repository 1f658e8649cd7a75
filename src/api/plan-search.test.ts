import { describe, expect, it } from "vitest";
import { preset } from "../model/presets.js";
import { CLUSTERS, cluster } from "../simulate/clusters.js";
import { layoutTimes, stepBound } from "./layout-bound.js";
import { plan } from "./plan.js";
import { caseProgram, costsOf, simulateStep } from "./plan-case.js";
import { withDefaults } from "./plan-question.js";
import { parsePolicy } from "../schedule/policy.js";
import { type SearchOptions, searchLayouts } from "./plan-search.js";

const model = { ...preset("gpt2-moe-small"), num_hidden_layers: 6 };
const slow = { ...cluster("2x8xA800"), uplinkBytesPerMs: 5e7 };
const options: SearchOptions = {
  model,
  cluster: slow,
  batch: 2,
  sequence: 512,
  archs: ["top2", "scmoe-pos2"],
};

describe("searchLayouts()", () => {
  it("finds what simulating every layout finds, and simulates fewer", () => {
    const all = searchLayouts({ ...options, top: 1000 });
    const found = searchLayouts({ ...options, top: 3 });
    expect(all.rows).toHaveLength(all.layouts - all.tooLarge);
    expect(found.layouts).toBe(2 * 2 * 4 * 2);
    expect(found.simulated).toBeLessThanOrEqual(found.layouts / 2);
    found.rows.forEach(({ stepMs }, i) => {
      expect(stepMs).toBeGreaterThanOrEqual(all.rows[i].stepMs);
      // What is told apart.
      expect(stepMs).toBeLessThanOrEqual(all.rows[i].stepMs / 0.995);
    });
    const steps = all.rows.map(({ stepMs }) => stepMs);
    expect(steps).toEqual([...steps].sort((a, b) => a - b));
  });

  it("gives a layout the step that a plan gives it", () => {
    const [best] = searchLayouts({ ...options, epSizes: [8] }).rows;
    const { arch, microBatch, microBatches, memory } = best;
    const cases = [{ arch, policy: "adaptive" }];
    const [row] = plan({ ...options, epSize: 8, batch: microBatch, cases }).rows;
    expect(best.policy).toBe(row.policy);
    expect(best.microBatchMs).toBeCloseTo(row.stepMs, 6);
    expect(best.reducedMs).toBeCloseTo(row.reducedMs as number, 6);
    expect(memory).toEqual(row.memory);
    const step = (microBatches - 1) * row.stepMs + (row.reducedMs as number);
    expect(best.stepMs).toBeCloseTo(step, 6);
    expect(best.tokensPerSecond).toBeCloseTo((1e3 * 16 * 2 * 512) / step, 3);
    // Weights, moments and gradients of this rank go through memory once, beside all of a micro-batch.
    const updateMs = (28 * memory.weights) / 2 / slow.memoryBytesPerMs;
    expect(best.reducedMs).toBeGreaterThan(row.computeMs + updateMs);
  });

  it("lists only what fits, and says what the least is where nothing does", () => {
    const at = (memoryBytes: number) =>
      searchLayouts({
        ...options,
        archs: ["shared"],
        policies: ["sequential", "pipelined(2)"],
        top: 1000,
        cluster: { ...slow, memoryBytes },
      });
    const roomy = at(80e9);
    expect(roomy.tooLarge).toBe(0);
    const needs = roomy.rows.map(({ memory }) => memory.total).sort((a, b) => a - b);
    const middle = needs[needs.length >> 1];
    const tight = at(middle / 0.9);
    expect(tight.rows).toHaveLength(needs.filter((total) => total <= middle).length);
    expect(tight.tooLarge + tight.simulated).toBe(roomy.layouts);
    expect(() => at(1e8)).toThrow(
      /No layout of 16 fits 2x8xA800: at least 1\.\d GB per rank \(shared, EP 8\).*0\.1 GB .*--zero/,
    );
  });

  it("leaves a model's own architecture as it is", () => {
    const longcat = { ...preset("tiny-longcat"), num_hidden_layers: 8 };
    const { rows } = searchLayouts({ model: longcat, cluster: "8xH100", batch: 2, top: 2 });
    expect(rows.map(({ arch }) => arch)).toEqual(["longcat3", "longcat3"]);
  });
});

describe("layout bounds", () => {
  const question = withDefaults({ ...options, epSize: 4 });

  it("of short models are those of the long one", () => {
    for (const arch of ["top2", "scmoe-pos2-l0pos1", "scmoe-pos3", "dgmoe-share", "farskip"]) {
      const long = { ...model, num_hidden_layers: 16 };
      const extrapolated = layoutTimes(withDefaults({ ...options, model: long, epSize: 4 }), arch, 2);
      // A dense block that there is not anyway: layers are no longer alike by their config.
      const irregular = { ...long, dense_layers: [0] };
      const whole = layoutTimes(withDefaults({ ...options, model: irregular, epSize: 4 }), arch, 2);
      for (const [name, ms] of Object.entries(whole.microBatch))
        expect(extrapolated.microBatch[name as keyof typeof whole.microBatch] / ms || 1, name).toBeCloseTo(
          1,
          9,
        );
      expect(extrapolated.reduction.inter).toBeCloseTo(whole.reduction.inter, 9);
      expect(extrapolated.lastBucketMs).toBeCloseTo(whole.lastBucketMs, 9);
    }
  });

  it("are not above a simulated step", () => {
    for (const [arch, policy] of [
      ["top2", "sequential"],
      ["shared", "pipelined(2)"],
      ["scmoe-pos2", "adaptive"],
    ]) {
      const [row] = plan({ ...options, epSize: 4, cases: [{ arch, policy }] }).rows;
      const times = layoutTimes(question, arch, parsePolicy(row.policy).chunks);
      const bound = stepBound(times, { microBatches: 1, isSequential: policy === "sequential" });
      expect(bound).toBeLessThanOrEqual((row.reducedMs as number) * (1 + 1e-9));
      expect(bound).toBeGreaterThan(0.8 * row.stepMs);
    }
  });
});

it("one rank stands for its group where ranks are alike", () => {
  for (const described of [...CLUSTERS.slice(0, 4), slow])
    for (const epSize of [1, 2, 8]) {
      const at = withDefaults({ ...options, cluster: described, epSize });
      const built = caseProgram(at, "scmoe-pos2", 1);
      const costs = costsOf(at);
      const schedule = parsePolicy("fixed(2)").schedule(built.program);
      const [one, group] = (["one", "group"] as const).map(
        (simulated) => simulateStep(built.program, schedule, { ...at, costs, step: 0, simulated }).summary,
      );
      expect(one.stepMs).toBeCloseTo(group.stepMs, 9);
      expect(one.exposedMs).toBeCloseTo(group.exposedMs, 9);
    }
});
