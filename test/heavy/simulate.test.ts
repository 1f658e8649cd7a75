/** The time that planning and simulating may take; bounds are generous, the figures are printed. */
import { expect, it } from "vitest";
import { resolveModel } from "../../src/model/config.js";
import { preset } from "../../src/model/presets.js";
import { buildProgram } from "../../src/model/wiring.js";
import { analyticCosts } from "../../src/plan/analytic.js";
import { clusterNetwork } from "../../src/plan/cluster-network.js";
import { parsePolicy } from "../../src/schedule/policy.js";
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
    const w = { config, tokens: 16384, sequence: 2048, epSize: 16, chunks, elementBytes: 2 };
    const { program } = buildProgram(config, { batch: 8, mode: "train", splitWeightGradients, ...w });
    const costs = analyticCosts(w, cluster("2x8xA800"));
    const policy = parsePolicy(`adaptive(${chunks})`);
    const { ms } = timed(`${arch}, ${program.operators.length} operators, planned`, () =>
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
  const w = { config, tokens: 4096, sequence: 4096, epSize, chunks: 1, elementBytes: 2 };
  const { program } = buildProgram(config, { batch: 1, mode: "train", ...w });
  const described = { ...cluster("4x8xH100-IB"), nodes: 128 };
  const costs = analyticCosts(w, described);
  const schedule = parsePolicy("fixed(2)").schedule(program);
  const ranks = Array.from({ length: 1024 }, () => costs);
  const even = Array<number>(epSize).fill(1);
  const network = clusterNetwork(w, described, () => even);
  const { result, ms } = timed(
    `61 layers, ${program.operators.length} operators, 1,024 ranks, simulated`,
    () => simulate(program, schedule, { costs: ranks, network, eventsOf: [0] }),
  );
  expect(result.summary.stepMs).toBeGreaterThan(0);
  expect(result.events.length).toBe(program.operators.length);
  expect(ms).toBeLessThan(10_000);
});
