/** Every architecture: overlapped and sequential give the same bytes. More policies in test/heavy. */
import { describe, it } from "vitest";
import { ARCHITECTURE_NAMES } from "../src/model/architectures.js";
import { expectSameBits } from "./prove.js";

describe.each(ARCHITECTURE_NAMES)("%s", (arch) => {
  it.each([
    ["adaptive", 2],
    ["adaptive", 4],
    ["pipelined(2)", 2],
  ] as const)("%s on %i ranks", (policy, ranks) => expectSameBits(arch, policy, ranks));
});

it("farskip2, all blocks but the first MoE blocks, on 4 ranks", () =>
  expectSameBits("farskip2", "adaptive", 4, [
    "model.moe_layer_interval=1",
    "model.dense_layers=[0]",
    "model.dense_reads=before",
    "model.coefficient_gate=cg2",
    "train.micro_batch_size=1",
    "train.split_weight_gradients=true",
  ]));

it.each(["scmoe-pos2", "dgmoe"])("%s, documents told apart", (arch) =>
  expectSameBits(arch, "adaptive", 2, "documents told apart"),
);

it.each([
  ["adaptive", 2],
  ["fixed(four-stage)", 2],
  ["pipelined(2)", 4],
] as const)("zero experts, %s on %i ranks", (policy, ranks) =>
  expectSameBits("longcat3", policy, ranks, "zero experts"),
);
