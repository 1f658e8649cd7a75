/** What a router's keys may be together, and what architectures make of them. */
import { describe, expect, it } from "vitest";
import { type ModelInput, resolveModel } from "./config.js";

const base = {
  vocab_size: 16,
  hidden_size: 8,
  intermediate_size: 16,
  num_attention_heads: 2,
  num_hidden_layers: 4,
  num_experts: 8,
  max_position_embeddings: 8,
};
const resolve = (keys: Partial<ModelInput> & { arch: string }) => resolveModel({ ...base, ...keys });

it.each<[Partial<ModelInput> & { arch: string }, string]>([
  [{ arch: "top2", expert_groups: 3 }, "num_experts 8 is not a multiple of expert_groups 3"],
  [{ arch: "top2", expert_groups: 2, expert_groups_kept: 3 }, "expert_groups_kept is 3, more than"],
  [{ arch: "top2", expert_groups_kept: 2 }, "expert_groups_kept is 2, but expert_groups is 1"],
  [{ arch: "top2", expert_groups: 8, expert_group_score: "two_best" }, "needs groups of at least two"],
  [{ arch: "top3", expert_groups: 4, expert_groups_kept: 1 }, "sends each token to 3 experts, but the 1"],
  [{ arch: "dgmoe", expert_groups: 8, expert_groups_kept: 1 }, "sends each token to 2 experts, but the 1"],
  [{ arch: "dense", expert_groups: 2 }, "has no experts; remove the key"],
  [{ arch: "top2", expert_groups: 2, num_zero_experts: 2 }, "zero experts belong to no group"],
  [{ arch: "dense", num_zero_experts: 2 }, "num_zero_experts is 2, but arch dense has no experts"],
  [{ arch: "dgmoe", num_zero_experts: 2 }, "num_zero_experts is 2, but arch dgmoe knows none"],
  [{ arch: "top9" }, "sends each token to 9 experts, but num_experts is 8"],
  [{ arch: "top2", active_experts: 1 }, "without num_zero_experts all experts are active"],
  [{ arch: "top2", num_zero_experts: 2, active_experts: 2 }, "active_experts is 2, wanted less than 2"],
  [{ arch: "top2", balance_groups: 3 }, "num_experts 8 is not a multiple of balance_groups 3"],
  [{ arch: "top2", balance_groups: 2, balance: "none" }, "balance_groups is 2, but balance is none"],
  [{ arch: "dense", balance_groups: 2 }, "balance_groups is 2, but arch dense has no experts"],
])("%j is refused", (keys, text) => {
  expect(() => resolve(keys)).toThrow(text);
});

describe("defaults", () => {
  it("of longcat go with its wiring, and can be set", () => {
    const { coefficient_gate, shortcut_norm, norm_topk_prob, balance } = resolve({ arch: "longcat" });
    expect([coefficient_gate, shortcut_norm, norm_topk_prob, balance]).toEqual([
      "none",
      "reuse",
      false,
      "bias",
    ]);
    expect(resolve({ arch: "longcat", balance: "aux", shortcut_norm: "own" })).toMatchObject({
      balance: "aux",
      shortcut_norm: "own",
    });
  });

  it("of all others are what they were", () => {
    for (const arch of ["top2", "scmoe-pos2", "dgmoe"])
      expect(resolve({ arch })).toMatchObject({
        shortcut_norm: "own",
        norm_topk_prob: true,
        balance: "aux",
        balance_bias_update: "sign",
      });
    // A key that is not there: a dry run has nothing to show, a config file nothing to say.
    expect(resolve({ arch: "top2" })).not.toHaveProperty("active_experts");
  });

  it("of k: in the name, or a key of its own; zero experts can be chosen, too", () => {
    expect(resolve({ arch: "longcat12", num_zero_experts: 4 })).toMatchObject({
      topK: 12,
      active_experts: 8,
      balance_bias_update: "proportional",
    });
    expect(resolve({ arch: "longcat", num_experts_per_tok: 3 }).topK).toBe(3);
  });
});
