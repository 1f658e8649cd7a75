/** Every architecture × policy × expert-parallel size that the default tests leave out: the same bytes as sequential. */
import { describe, it } from "vitest";
import { ARCHITECTURE_NAMES } from "../../src/model/architectures.js";
import { expectSameBits } from "../prove.js";

/** On one rank nothing travels, and orders differ little: one policy stands for all. */
const LEFT_OUT: readonly (readonly [policy: string, ranks: number])[] = [
  ["adaptive", 1],
  ["pipelined(2)", 4],
  ["fixed(2)", 4],
  ...["fixed(1)", "fixed(2)", "fixed(4)"].map((policy) => [policy, 2] as const),
  ...[2, 4].map((ranks) => ["adaptive(2)", ranks] as const),
];

describe.each(ARCHITECTURE_NAMES)("%s", (arch) => {
  it.each(LEFT_OUT)("%s on %i ranks", (policy, ranks) => expectSameBits(arch, policy, ranks));

  it.each([
    ["adaptive", 2],
    ["adaptive", 4],
    ["pipelined(2)", 2],
  ] as const)("%s on %i ranks, documents told apart", (policy, ranks) =>
    expectSameBits(arch, policy, ranks, "documents told apart"),
  );
});
