import { expect, it } from "vitest";
import { singleCommunicator } from "../comm/single.js";
import { createReferenceEngine } from "../../test/reference/engine.js";
import { resolveModel } from "../model/config.js";
import { momentsOf } from "./moments.js";
import { createTrainee } from "./trainee.js";

const GIB = 2 ** 30;

it("parameters of more than 1 GiB have an arena for each of weights, gradients and moments", () => {
  // Address space only: pages that nobody touches cost nothing.
  const config = resolveModel({
    arch: "dense",
    style: "llama",
    tie_word_embeddings: true,
    vocab_size: 2 ** 19,
    hidden_size: 1024,
    intermediate_size: 8,
    num_attention_heads: 1,
    num_hidden_layers: 1,
    max_position_embeddings: 8,
  });
  const rank = createTrainee({ config, engine: createReferenceEngine(), world: singleCommunicator() });
  const [bucket] = rank.weights.buckets;
  expect(bucket.tensors.map(({ info }) => info.name)).toEqual(["model.embed_tokens.weight"]);
  const { expAvg, expAvgSq } = momentsOf(rank, bucket);
  expAvgSq[bucket.size - 1] = 3;
  const arrays = [bucket.weights, rank.gradients.bucket(bucket), expAvg, expAvgSq];
  expect(arrays.map((array) => array.byteLength)).toEqual([2 * GIB, 2 * GIB, 2 * GIB, 2 * GIB]);
  expect(new Set(arrays.map((array) => array.buffer)).size).toBe(4);
  expect(rank.stateBytes).toBe(4 * rank.weights.bytes);
});
