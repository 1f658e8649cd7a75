/** The time that planning and simulating may take; bounds are generous, the figures are printed. */
import { expect, it } from "vitest";
import { searchLayouts } from "../../src/api/plan-search.js";
import { resolveModel } from "../../src/model/config.js";
import { preset } from "../../src/model/presets.js";
import { buildTrainingProgram } from "../../src/model/training-program.js";
import { parsePolicy } from "../../src/schedule/policy.js";
import { analyticCosts } from "../../src/simulate/analytic.js";
import { clusterNetwork } from "../../src/simulate/cluster-network.js";
import { cluster } from "../../src/simulate/clusters.js";
import { simulate } from "../../src/simulate/simulate.js";

function timed<T>(what: string, run: () => T): { result: T; ms: number } {
  const start = performance.now();
  const result = run();
  const ms = performance.now() - start;
  process.stdout.write(`${what}: ${ms.toFixed(0)} ms\n`);
  return { result, ms };
}

it("plans a 24-layer model in less than a second", () => {
  for (const [arch, chunks, splitWeightGradients] of [
    ["scmoe-pos2", 1, false],
    ["scmoe-pos3", 1, true],
    ["shared", 2, true],
  ] as const) {
    const { coefficient_gate: _gate, ...model } = preset("gpt2-moe-medium");
    const config = resolveModel({ ...model, arch });
    const w = { batch: 8, sequence: 2048, epSize: 16, chunks, splitWeightGradients };
    const { program } = buildTrainingProgram(config, w);
    const costs = analyticCosts({ cluster: cluster("2x8xA800"), elementBytes: 2, ranks: 16 });
    const policy = parsePolicy(`adaptive(${chunks})`);
    const { ms } = timed(`${arch}, ${program.operators.length} operators, placed`, () =>
      policy.schedule(program, costs),
    );
    expect(ms).toBeLessThan(1000);
  }
});

it("simulates 61 layers on 1,024 ranks in less than 10 seconds", () => {
  const config = resolveModel({
    arch: "shared",
    style: "llama",
    vocab_size: 129280,
    hidden_size: 7168,
    intermediate_size: 2048,
    num_attention_heads: 64,
    num_hidden_layers: 61,
    moe_layer_interval: 1,
    num_experts: 256,
    max_position_embeddings: 4096,
  });
  const epSize = 64;
  const numRanks = 1024;
  const { program } = buildTrainingProgram(config, { batch: 1, sequence: 4096, epSize, ranks: numRanks });
  const described = { ...cluster("4x8xH100-IB"), nodes: 128 };
  const costs = analyticCosts({ cluster: described, elementBytes: 2, ranks: numRanks });
  const schedule = parsePolicy("fixed(2)").schedule(program);
  const ranks = Array.from({ length: numRanks }, () => costs);
  const even = Array<number>(epSize).fill(1);
  const network = clusterNetwork({ epSize, ranks: numRanks }, described, () => even);
  const { result, ms } = timed(
    `61 layers, ${program.operators.length} operators, 1,024 ranks, simulated`,
    () => simulate(program, schedule, { costs: ranks, network, eventsOf: [0] }),
  );
  expect(result.summary.stepMs).toBeGreaterThan(0);
  expect(result.events.length).toBe(program.operators.length);
  expect(ms).toBeLessThan(10_000);
});

it("searches the layouts of 1,024 ranks in seconds", () => {
  const { result, ms } = timed("layouts of gpt2-moe-medium on 128 nodes of 8 H100, searched", () =>
    searchLayouts({ model: "gpt2-moe-medium", cluster: "128x8xH100-IB" }),
  );
  expect(result.rows).toHaveLength(10);
  expect(ms).toBeLessThan(30_000);
});
