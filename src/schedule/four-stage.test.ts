/** The published schedule of LongCat-Flash, by name; what `adaptive` finds is at least as good. */
import { describe, expect, it } from "vitest";
import { resolveModel } from "../model/config.js";
import { preset } from "../model/presets.js";
import { buildTrainingProgram } from "../model/training-program.js";
import { roleOf } from "../program/work.js";
import { whyIllegal } from "../program/validate.js";
import { analyticCosts } from "../simulate/analytic.js";
import { cluster } from "../simulate/clusters.js";
import { simulate } from "../simulate/simulate.js";
import { parsePolicy } from "./policy.js";

/** The model's own proportions, in few blocks: what is planned is work, no weights are made. */
const config = resolveModel({ ...preset("longcat-flash"), num_hidden_layers: 6 });

it("experts run alone, after the first MLP and before the next attention; backward the other way round", () => {
  const { program } = buildTrainingProgram(config, { batch: 1, sequence: 256, epSize: 8 });
  const schedule = parsePolicy("fixed(four-stage)").schedule(program);
  expect(whyIllegal(program, schedule)).toBeUndefined();
  const large = schedule.order.compute
    .map((id) => program.operators[id])
    .filter((op) => ["large", "expert"].includes(roleOf(op)) && op.layer !== undefined)
    .map((op) => `${op.layer} ${op.work.class}${op.pass === "backward" ? "'" : ""}`);
  const pair = ["2 attention", "2 mlp", "3 expert", "3 attention", "3 shared"];
  expect(large.slice(5, 10)).toEqual(pair);
  expect(large.slice(-10, -5)).toEqual(pair.map((text) => `${text}'`).reverse());
});

describe.each(["8xA30-PCIe", "2x8xA800", "4x8xH100-IB"])("on %s", (name) => {
  const described = cluster(name);
  const ranks = described.devicesPerNode * described.nodes;
  const costs = analyticCosts({ cluster: described, elementBytes: 2, ranks });
  it.each([
    [1, 512],
    [8, 1024],
  ])("adaptive is at least as good as the four stages, with %i × %i tokens per rank", (batch, sequence) => {
    for (const wire of ["f32", "bf16"] as const) {
      const { program } = buildTrainingProgram(config, { batch, sequence, epSize: ranks, wire });
      const [stages, free] = ["fixed(four-stage)", "adaptive"].map(
        (policy) =>
          simulate(program, parsePolicy(policy).schedule(program, costs), { costs: [costs] }).summary.stepMs,
      );
      expect(free).toBeLessThanOrEqual(stages * (1 + 1e-9));
    }
  });
});
