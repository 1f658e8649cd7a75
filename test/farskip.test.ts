/** FarSkip (method 5.7): its numbers, what waits for what, and what that hides. */
import { afterAll, describe, expect, it } from "vitest";
import { singleCommunicator } from "../src/comm/single.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { type ModelInput, resolveModel } from "../src/model/config.js";
import { buildProgram } from "../src/model/language-model.js";
import { buildTrainingProgram } from "../src/model/training-program.js";
import { ancestorsOf } from "../src/program/graph.js";
import type { Program } from "../src/program/program.js";
import { expertWindows } from "../src/schedule/placement.js";
import { parsePolicy } from "../src/schedule/policy.js";
import { classCosts } from "../src/simulate/costs.js";
import { simulate } from "../src/simulate/simulate.js";
import type { MicroBatch } from "../src/train/micro-batch.js";
import { forwardBackward } from "../src/train/step.js";
import { type StepProgram, openStep } from "../src/train/step-sessions.js";
import { createTrainee } from "../src/train/trainee.js";
import { farskipLosses } from "./reference/farskip.js";

const engine = createOrtEngine();
afterAll(() => engine.dispose());

const [BATCH, SEQUENCE, VOCABULARY] = [2, 10, 37];

function configOf(keys: Partial<ModelInput>) {
  return resolveModel({
    arch: "farskip",
    vocab_size: VOCABULARY,
    hidden_size: 16,
    intermediate_size: 24,
    num_attention_heads: 2,
    num_hidden_layers: 5,
    num_experts: 4,
    max_position_embeddings: SEQUENCE,
    ...keys,
  });
}

/** Losses of a step, all gradients, and the weights that they are of. */
function step(keys: Partial<ModelInput>, options: Partial<StepProgram> = {}, policy = "sequential") {
  const config = configOf(keys);
  const rank = createTrainee({ config, engine, world: singleCommunicator() });
  rank.weights.initialize(5, 0.2);
  const { microBatches = 1 } = options;
  const batch = BATCH / microBatches;
  const sessions = openStep(rank, { batch, sequence: SEQUENCE, epSize: 1, ...options }, (program) =>
    parsePolicy(policy).schedule(program),
  );
  const ids = (factor: number): Int32Array =>
    Int32Array.from({ length: BATCH * SEQUENCE }, (_, i) => (i * i * factor + 3 * i) % VOCABULARY);
  const [tokens, labels] = [ids(7), ids(5)];
  const size = batch * SEQUENCE;
  const micros = Array.from({ length: microBatches }, (_, m): MicroBatch => ({
    tokens: tokens.slice(m * size, (m + 1) * size),
    labels: labels.slice(m * size, (m + 1) * size),
    firstToken: m * size,
  }));
  const { lmLoss, balanceLoss } = forwardBackward(rank, sessions, micros, { step: 0, seed: 0 });
  const gradients = rank.weights.buckets.flatMap((bucket) => [...rank.gradients.bucket(bucket)]);
  const weight = (name: string): Float32Array => rank.weights.weight(name);
  return { config, lmLoss, balanceLoss, gradients, weight, tokens, labels };
}

const VARIANTS: readonly Partial<ModelInput>[] = [
  {},
  { moe_layer_interval: 1, num_hidden_layers: 3 },
  { coefficient_gate: "cg1", dense_reads: "before" },
  { coefficient_gate: "cg2", moe_layer_interval: 1, dense_layers: [0, 2], dense_reads: "before" },
  { arch: "farskip2", coefficient_gate: "cg2", capacity_factor: 0.8 },
  { arch: "farskip", num_experts_per_tok: 3, moe_layer_interval: 3, dense_reads: "before" },
];
const cases = VARIANTS.map((keys) => [JSON.stringify(keys), keys] as const);

describe("numbers", () => {
  it.each(cases)("are those of the equations: %s", (_, keys) => {
    const { config, weight, tokens, labels, ...found } = step(keys);
    const wanted = farskipLosses(config, weight, { tokens, labels, sequence: SEQUENCE });
    expect(found.lmLoss).toBeCloseTo(wanted.lmLoss, 5);
    expect(found.balanceLoss).toBeCloseTo(wanted.balanceLoss, 5);
  });

  it("differ where the equations do: no variant is another one", () => {
    const losses = [{}, { dense_reads: "before" }, { moe_layer_interval: 1 }, { arch: "farskip2" }] as const;
    expect(new Set(losses.map((keys) => step(keys).lmLoss)).size).toBe(losses.length);
  });

  it.each(cases)("have the same bits under every schedule: %s", (_, keys) => {
    for (const options of [{}, { chunks: 2, splitWeightGradients: true, recompute: true }]) {
      const wanted = step(keys, options).gradients;
      for (const policy of ["fixed(1)", "fixed(2)", "fixed(4)", "pipelined(2)", "adaptive"])
        expect(step(keys, options, policy).gradients, policy).toEqual(wanted);
    }
  });

  it("do not depend on how a step is cut, though its balance counts all of it", () => {
    const keys = { router_aux_loss_coef: 1, moe_layer_interval: 1 };
    const [whole, cut] = [step(keys), step(keys, { microBatches: 2 })];
    expect(cut.balanceLoss).toBeCloseTo(whole.balanceLoss, 5);
    cut.gradients.forEach((g, i) => expect(Math.abs(g - whole.gradients[i])).toBeLessThan(1e-5));
  });
});

function training(keys: Partial<ModelInput>): Program {
  return buildTrainingProgram(configOf(keys), { batch: BATCH, sequence: SEQUENCE, epSize: 2 }).program;
}

function windows(program: Program): string[] {
  const name = (id: number): string => program.operators[id].name;
  return [...expertWindows(program)].map(([id, large]) => `${name(id)}: ${large.map(name).join(" ")}`);
}

describe("windows", () => {
  it("are both attentions and the shared expert, where a dense block follows", () => {
    for (const dense_reads of ["after", "before"] as const)
      expect(windows(training({ dense_reads }))).toEqual([
        "L1.expert: L1.attention L1.shared L2.attention",
        "L3.expert: L3.attention L3.shared L4.attention",
        "L3.expert': L4.attention' L3.shared' L3.attention'",
        "L1.expert': L2.attention' L1.shared' L1.attention'",
      ]);
  });

  it("overlap where every block is an MoE block: an attention is in two", () => {
    expect(windows(training({ moe_layer_interval: 1, num_hidden_layers: 3 }))).toEqual([
      "L0.expert: L0.attention L0.shared L1.attention",
      "L1.expert: L1.attention L1.shared L2.attention",
      "L2.expert: L2.attention L2.shared",
      "L2.expert': L2.shared' L2.attention'",
      "L1.expert': L2.attention' L1.shared' L1.attention'",
      "L0.expert': L1.attention' L0.shared' L0.attention'",
    ]);
  });

  it("begin before the block's own attention, and hold nothing that only passes a gradient on", () => {
    const program = training({});
    const ancestors = ancestorsOf(program);
    const idOf = (name: string): number => program.operators.findIndex((op) => op.name === name);
    const waits = (later: string, earlier: string): boolean => ancestors.has(idOf(later), idOf(earlier));
    expect(waits("L3.dispatch", "L2.mlp")).toBe(true);
    expect(waits("L3.dispatch", "L3.attention")).toBe(false);
    expect(waits("L3.shared", "L3.attention")).toBe(false);
    expect(waits("L4.attention", "L3.shared")).toBe(true);
    expect(waits("L4.attention", "L3.decode")).toBe(false);
    expect(waits("L4.mlp", "L3.decode")).toBe(true);
    expect(waits("L3.combine'", "L4.mlp'")).toBe(true);
    expect(waits("L3.combine'", "L4.attention'")).toBe(false);
  });
});

describe("overlap", () => {
  /** Every large operator takes 4 ms in each pass. */
  function exposed(
    keys: Partial<ModelInput>,
    of: "forward" | "training",
    policy: string,
    ms: [number, number],
  ) {
    const options = { batch: BATCH, sequence: SEQUENCE, epSize: 2 };
    const { program } =
      of === "training"
        ? buildTrainingProgram(configOf(keys), options)
        : buildProgram(configOf(keys), { ...options, head: "losses" });
    const [dispatch, combine] = ms;
    const costs = classCosts({ attention: 4, mlp: 4, shared: 4, expert: 4, dispatch, combine }, 1e-3);
    const { summary } = simulate(program, parsePolicy(policy).schedule(program, costs), { costs: [costs] });
    return summary.exposedMs / summary.communicationMs;
  }

  it.each(["forward", "training"] as const)(
    "hides what fits into two attentions and a shared expert: %s",
    (of) => {
      for (const dense_reads of ["after", "before"] as const) {
        expect(exposed({ dense_reads }, of, "adaptive", [8, 4])).toBeLessThan(0.001);
        expect(exposed({ dense_reads }, of, "adaptive(2)", [8, 4])).toBeLessThan(0.001);
        expect(exposed({ dense_reads }, of, "sequential", [8, 4])).toBeGreaterThan(0.999);
      }
      // One attention and the shared expert are position 1's window: a third stays exposed.
      expect(exposed({ arch: "scmoe-pos1" }, of, "adaptive", [8, 4])).toBeCloseTo(1 / 3, 2);
    },
  );

  it.each(["forward", "training"] as const)(
    "hides one attention and one shared expert per block, where all are MoE blocks: %s",
    (of) => {
      const every = { moe_layer_interval: 1 };
      expect(exposed(every, of, "adaptive", [4, 4])).toBeLessThan(0.001);
      // Routed parts are a chain: 12 ms of transfers per block, 8 ms of computing beside them.
      expect(exposed(every, of, "adaptive", [6, 6])).toBeCloseTo(1 / 3, 2);
      expect(exposed(every, of, "sequential", [4, 4])).toBeGreaterThan(0.999);
    },
  );
});
