/** What our encoder writes, an independent decoder reads as we meant it. */
import { fromBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import { expect, it } from "vitest";
import { trainingKernels } from "../../../test/kernels.js";
import { encodeOnnx } from "./encode.js";

const kernels = (["gpt", "llama"] as const).flatMap((style) => {
  const model = {
    arch: "shared",
    style,
    vocab_size: 64,
    hidden_size: 32,
    intermediate_size: 64,
    num_attention_heads: 4,
    num_hidden_layers: 2,
    num_experts: 4,
    max_position_embeddings: 16,
  };
  return trainingKernels(model, 16).flatMap(([name, { forward, backward }]) => [
    [`${style} ${name}`, forward] as const,
    [`${style} ${name}'`, backward] as const,
  ]);
});

it.each(kernels)("%s", (_, kernel) => {
  const { bytes, inputs, outputs } = encodeOnnx(kernel);
  const { graph } = fromBinary(ModelProtoSchema, bytes);
  expect(graph?.input.map((value) => value.name)).toEqual(inputs);
  expect(graph?.output.map((value) => value.name)).toEqual(outputs);
  // Every name is made before it is used, and once.
  const made = new Set([...inputs, ...(graph?.initializer ?? []).map((i) => i.name)]);
  for (const node of graph?.node ?? []) {
    for (const name of node.input) expect(made, `${node.opType} reads ${name}`).toContain(name);
    expect(made).not.toContain(node.output[0]);
    made.add(node.output[0]);
  }
  for (const name of outputs) expect(made).toContain(name);
  for (const { dims, rawData, dataType } of graph?.initializer ?? []) {
    const elements = dims.reduce((product, dim) => product * Number(dim), 1);
    expect(rawData?.byteLength).toBe(elements * (dataType === 7 ? 8 : 4));
  }
});
