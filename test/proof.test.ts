/** Every architecture: overlapped and sequential give the same bytes. More policies in test/heavy. */
import { describe, it } from "vitest";
import { ARCHITECTURE_NAMES } from "../src/model/architectures.js";
import { expectSameBits } from "./prove.js";

describe.each(ARCHITECTURE_NAMES)("%s", (arch) => {
  it.each([
    ["adaptive", 1],
    ["adaptive", 2],
    ["adaptive", 4],
    ["pipelined(2)", 2],
    ["fixed(2)", 2],
  ] as const)("%s on %i ranks", (policy, ranks) => expectSameBits(arch, policy, ranks));
});

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
