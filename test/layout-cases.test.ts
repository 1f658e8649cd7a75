/** What is easy to get wrong on several ranks, case by case: the numbers of one rank. More of them: `npm run campaign -- layouts`. */
import { expect, it } from "vitest";
import { bundleCampaign } from "../scripts/bundle-campaign.mjs";
import { launch } from "../src/launch/launch.js";
import { type Case, TWISTS, VOCABULARY, twisted } from "./campaign/layouts/case.js";
import { type Comparison, compare } from "./campaign/layouts/compare.js";
import { type Task, layoutsJob } from "./campaign/layouts/job.js";
import type { Choices, Played } from "./campaign/layouts/play.js";

const BASE: Case = {
  seed: 3,
  attempt: 0,
  transport: "threads",
  model: {
    arch: "scmoe-pos2",
    vocab_size: VOCABULARY,
    hidden_size: 8,
    intermediate_size: 16,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: 4,
    router_z_loss_coef: 0.01,
  },
  ranks: 2,
  ep: 2,
  zero: false,
  wire: "f32",
  policy: "adaptive",
  recompute: false,
  splitWeightGradients: false,
  documents: false,
  batch: 1,
  sequence: 4,
  microBatches: 2,
  steps: 2,
  clipNorm: 1,
};
const model = (of: Partial<Case["model"]>): Pick<Case, "model"> => ({ model: { ...BASE.model, ...of } });

const ON_EP_AND_DP: Partial<Case> = { ranks: 4 };
const CASES: Readonly<Record<string, Case>> = {
  ...Object.fromEntries(
    TWISTS.map((twist) => [
      twist,
      twisted({ ...BASE, twist, ...(twist.includes("EP × DP") ? ON_EP_AND_DP : {}) }),
    ]),
  ),
  "a checkpoint of ZeRO-1 with selection biases": {
    ...BASE,
    ...model({ balance: "bias" }),
    twist: "a checkpoint that changes layouts",
    zero: true,
  },
  "fewer tokens than chunks": { ...BASE, sequence: 1, policy: "pipelined(3)" },
  "the figure of balance where it is not in the loss": { ...BASE, ...model({ balance: "none" }) },
  "balance of each micro-batch, with capacity": {
    ...BASE,
    ...model({ balance_statistics: "micro_batch", capacity_factor: 1, router_aux_loss_coef: 1 }),
  },
  "zero experts, a bias that goes by shares, and balance of groups": {
    ...BASE,
    ...model({ arch: "longcat3", num_zero_experts: 3, balance_groups: 2, router_aux_loss_coef: 1 }),
    ranks: 4,
    policy: "adaptive(2)",
  },
  "zero experts with capacity, bf16 on the wire": {
    ...BASE,
    ...model({ arch: "scmoe2-pos2", num_zero_experts: 3, capacity_factor: 1, balance: "none" }),
    wire: "bf16",
  },
  "sigmoid scores of groups": {
    ...BASE,
    ...model({
      arch: "top2",
      router_scores: "sigmoid",
      expert_groups: 2,
      expert_groups_kept: 1,
      expert_group_score: "two_best",
      routed_scaling_factor: 2.5,
    }),
  },
  "bf16 on the wire": { ...BASE, wire: "bf16" },
};

/** One launch for all cases of so many ranks: they share kernels. */
async function play(cases: readonly Case[], side: Task["side"], ranks: number): Promise<Played[]> {
  const module = await bundleCampaign("layouts/job", "layout-cases");
  const played: Played[] = [];
  const tasks = cases.map((of) => ({ of, side }));
  await launch({ ...layoutsJob, module }, tasks, {
    ranks,
    onEvent: (event) => {
      if (event.kind === "played") played.push(event.played);
    },
  });
  return played;
}

it("each case has the numbers of one rank", async () => {
  const names = Object.keys(CASES);
  const one = await play(Object.values(CASES), "one", 1);
  for (const ranks of [2, 4]) {
    const mine = names.filter((name) => CASES[name].ranks === ranks);
    const played = await play(
      mine.map((name) => CASES[name]),
      "layout",
      ranks,
    );
    for (const [i, name] of mine.entries()) {
      const { problems, tie } = compare(CASES[name], played[i], one[names.indexOf(name)]);
      expect({ problems, tie }, name).toEqual({ problems: [], tie: undefined });
    }
  }
});

it("a token that goes elsewhere is a tie when the two probabilities are the same within rounding, and else a failure", async () => {
  const [played] = await play([BASE], "one", 1);
  expect(compare(BASE, played, played).problems).toEqual([]);
  const [{ choices, ...step }, ...steps] = played.steps;
  /** The first token of the first routing goes to another expert, which is so much less likely. */
  const moved = (gap: number): Comparison => {
    const [{ choice, probabilities, numExperts, ...rest }, ...others] = choices;
    const other = (choice[0] + 1) % numExperts;
    const [there, here] = [choice, probabilities].map((array) => array.slice());
    there[0] = other;
    here[other] = here[choice[0]] - gap;
    const one = { choice, probabilities: Float32Array.from(here), numExperts, ...rest };
    const playedWith = (first: Choices): Played => ({
      ...played,
      steps: [{ ...step, choices: [first, ...others] }, ...steps],
    });
    return compare(BASE, playedWith({ ...one, choice: Int32Array.from(there) }), playedWith(one));
  };
  expect(moved(1e-7)).toMatchObject({
    problems: [],
    tie: expect.stringContaining("step 0: routing 0 sends token 0") as string,
  });
  const { problems, tie } = moved(1e-3);
  expect(tie).toBeUndefined();
  expect(problems.join()).toMatch(/step 0: routing 0 sends token 0 to . instead of ., 1\.0e-3 apart/);
});
