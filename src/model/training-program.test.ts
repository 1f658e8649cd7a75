import { describe, expect, it } from "vitest";
import type { OperatorOf } from "../program/operator.js";
import { resolveModel } from "./config.js";
import { type ModelProgram, buildProgram } from "./language-model.js";
import { buildTrainingProgram } from "./training-program.js";

const config = resolveModel({
  arch: "scmoe-pos2",
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 16,
  num_attention_heads: 2,
  num_hidden_layers: 4,
  num_experts: 4,
  max_position_embeddings: 8,
  gate_noise: true,
  balance_statistics: "global",
});
const sizes = { batch: 1, sequence: 8, epSize: 2 };
const gates = ({ program }: ModelProgram, kind: "kernel" | "kernel'"): OperatorOf<"kernel" | "kernel'">[] =>
  program.operators.flatMap((op) => (op.kind === kind && op.work.class === "gate" ? [op] : []));

describe("gate noise", () => {
  it("is fed to a training program, and nobody computes a gradient of it", () => {
    const model = buildTrainingProgram(config, sizes);
    expect(model.noise.length).toBe(2);
    expect(gates(model, "kernel").map(({ data }) => data.inputs.noise)).toEqual(model.noise);
    for (const { data } of gates(model, "kernel'")) {
      expect(data.kernel.outputs.map(({ name }) => name)).toContain("g_noise_w");
      expect(data.kernel.outputs.map(({ name }) => name)).not.toContain("d_noise");
      expect(data.outputs.d_noise).toBeUndefined();
    }
  });
});

it("a forward program carries no trace of training", () => {
  const model = buildProgram(config, { ...sizes, head: "logits" });
  expect(model.noise).toEqual([]);
  for (const { data } of gates(model, "kernel")) expect(data.inputs).not.toHaveProperty("noise");
  expect(model.program.operators.filter((op) => op.pass === "backward" || op.kind === "statistics")).toEqual(
    [],
  );
  // Nothing is saved: every value but the logits has a reader.
  const isRead = new Set(model.program.operators.flatMap((op) => op.reads));
  const unread = model.program.values.filter(({ id }) => !isRead.has(id)).map(({ id }) => id);
  expect(unread).toEqual([model.output]);
  for (const op of model.program.operators) if (op.kind === "expert") expect(op.data.saved).toBeUndefined();
});
