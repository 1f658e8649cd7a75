/** A case: a tiny model, and the layout of ranks that it trains on. All of it follows from one number. */
import { type ModelInput, resolveModel } from "../../../src/model/config.js";
import { hasBalanceLoss } from "../../../src/model/training-program.js";
import { Dice } from "../fuzz/dice.js";

export const VOCABULARY = 40;

/** What others got wrong; case i has the twist of i mod CYCLE, so that CYCLE cases in a row have them all. */
export const TWISTS = [
  "a rank that gets no token",
  "an expert without tokens",
  "all tokens to one expert with one row",
  "ties in the gate",
  "losses divided by micro-batches",
  "gradients of experts on EP × DP",
  "k = 1 whose gate learns",
  "a checkpoint that changes layouts",
] as const;
export type Twist = (typeof TWISTS)[number];
export const CYCLE = 24;

export interface Case {
  readonly seed: number;
  /** Of weights; another one where a tie within rounding made the comparison void. */
  readonly attempt: number;
  readonly twist?: Twist | undefined;
  readonly transport: "threads" | "mpi";
  readonly model: ModelInput;
  readonly ranks: number;
  readonly ep: number;
  readonly zero: boolean;
  readonly wire: "f32" | "bf16";
  readonly policy: string;
  readonly recompute: boolean;
  readonly splitWeightGradients: boolean;
  readonly documents: boolean;
  /** Sequences per rank and micro-batch. */
  readonly batch: number;
  readonly sequence: number;
  readonly microBatches: number;
  readonly steps: number;
  readonly clipNorm: number | null;
}

const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** @param hasMpi whether a share of the cases may run under `mpirun` */
export function makeCase(seed: number, hasMpi: boolean): Case {
  const dice = new Dice(seed);
  const twist: Twist | undefined = TWISTS[seed % CYCLE];
  const layout = drawLayout(dice, twist);
  const mpi = dice.chance(0.15);
  const of: Omit<Case, "model"> = {
    seed,
    attempt: 0,
    twist,
    transport: mpi && hasMpi && layout.ranks > 1 ? "mpi" : "threads",
    ...layout,
    zero: dice.chance(0.4),
    wire: dice.chance(0.2) ? "bf16" : "f32",
    policy: dice.pick([
      "sequential",
      "pipelined(2)",
      "pipelined(3)",
      "fixed(1)",
      "fixed(2)",
      "fixed(4)",
      "adaptive",
      "adaptive(2)",
    ]),
    recompute: dice.chance(0.3),
    splitWeightGradients: dice.chance(0.4),
    documents: dice.chance(0.3),
    batch: dice.pick([1, 1, 2]),
    sequence: dice.pick([1, 4, 8, 8]),
    microBatches: dice.pick([1, 2, 3, 4]),
    steps: dice.pick([2, 3]),
    clipNorm: dice.chance(0.7) ? 1 : null,
  };
  return twisted({ ...of, model: drawModel(dice, of.ep) });
}

function drawLayout(dice: Dice, twist: Twist | undefined): Pick<Case, "ranks" | "ep"> {
  if (twist === "gradients of experts on EP × DP") return { ranks: 4, ep: 2 };
  const ranks = dice.pick([1, 2, 2, 3, 4, 4]);
  if (twist === "a rank that gets no token") return { ranks: Math.max(2, ranks), ep: Math.max(2, ranks) };
  return { ranks, ep: dice.pick(numbers(1, ranks).filter((ep) => ranks % ep === 0)) };
}

function drawModel(dice: Dice, ep: number): ModelInput {
  const style = dice.pick(["gpt", "llama"] as const);
  const width = dice.pick([8, 16, 32]);
  const num_experts = dice.pick([2, 3, 4, 6, 8].filter((n) => n % ep === 0));
  const k = dice.pick([1, 1, 2, 2, 3, 4].filter((n) => n <= num_experts));
  const position = dice.pick([1, 2, 3]);
  const arch = dice.pick([
    "dense",
    `top${k}`,
    `top${k}`,
    `shared${k}`,
    `scmoe${k}-pos${position}`,
    `scmoe${k}-pos${position}`,
    `scmoe${k}-pos${position}-l0pos1`,
    "dgmoe",
    "dgmoe-share",
    `longcat${k}`,
    `farskip${k}`,
  ]);
  const moe_layer_interval = dice.pick([1, 2, 2] as const);
  const isShared = /^(shared|scmoe|longcat|farskip)/.test(arch);
  const model: ModelInput = {
    arch,
    style,
    vocab_size: VOCABULARY,
    hidden_size: width,
    intermediate_size: 2 * width,
    moe_intermediate_size: dice.pick([width, 2 * width]),
    num_attention_heads: 2,
    num_key_value_heads: dice.pick([1, 2, 2]),
    num_hidden_layers: dice.pick(moe_layer_interval === 1 ? [2, 3] : [2, 3, 4]),
    num_experts,
    moe_layer_interval,
    max_position_embeddings: 8,
    capacity_factor: dice.chance(0.35) ? dice.pick([0.5, 0.75, 1, 1.25, 2]) : null,
    ...(isShared && dice.chance(0.3) ? { coefficient_gate: dice.pick(["none", "cg1", "cg2"] as const) } : {}),
    shortcut_norm: dice.chance(0.3) ? "reuse" : "own",
    ...(arch.startsWith("farskip") && dice.chance(0.4) ? { dense_reads: "before" as const } : {}),
    norm_topk_prob: dice.chance(0.7),
    gate_noise: dice.chance(0.3),
    balance: dice.pick(["aux", "aux", "bias", "none"] as const),
    balance_statistics: dice.pick(["global", "global", "micro_batch", "rank"] as const),
    router_aux_loss_coef: dice.pick([0.01, 0.1, 1]),
    router_z_loss_coef: dice.pick([0, 0, 0.01, 0.1]),
    balance_bias_rate: 0.01,
    ...(dice.chance(0.2) ? { tie_word_embeddings: dice.chance(0.5) } : {}),
  };
  return arch === "dense" ? model : { ...model, ...drawRouter(dice, model, k) };
}

/** What published models do beside softmax and top k. */
function drawRouter(
  dice: Dice,
  { arch, num_experts: N = 8, balance }: ModelInput,
  k: number,
): Partial<ModelInput> {
  const isDual = arch.startsWith("dgmoe");
  const router_scores = dice.chance(0.3) ? "sigmoid" : "softmax";
  const routed_scaling_factor = dice.pick([1, 1, 2.5]);
  const num_zero_experts = !isDual && dice.chance(0.3) ? dice.pick([1, 3]) : 0;
  const divisors = [2, 3, 4].filter((n) => N % n === 0 && N > n);
  const expert_groups = num_zero_experts === 0 && dice.chance(0.3) ? dice.pick([1, ...divisors]) : 1;
  const size = N / expert_groups;
  const needed = isDual ? 2 : k;
  const kept = dice.pick([1, 2, 3, 4].filter((n) => n <= expert_groups && n * size >= needed));
  return {
    router_scores,
    routed_scaling_factor,
    num_zero_experts,
    expert_groups,
    expert_groups_kept: kept,
    expert_group_score: dice.pick(["best", "two_best"] as const),
    ...(balance !== "none" && dice.chance(0.3) ? { balance_groups: dice.pick([1, ...divisors]) } : {}),
    ...(dice.chance(0.3) ? { balance_bias_update: dice.pick(["sign", "proportional"] as const) } : {}),
  };
}

const ROUTED: Partial<ModelInput> = { arch: "top2", moe_layer_interval: 2 };

/** What a twist fixes; the rest stays as it was drawn. */
export function twisted(drawn: Case): Case {
  if (drawn.twist === undefined) return drawn;
  const { model } = drawn;
  return TWISTED[drawn.twist]({ ...drawn, model: { ...model, ...(model.arch === "dense" ? ROUTED : {}) } });
}

const change = (of: Case, model: Partial<ModelInput>, more: Partial<Case> = {}): Case => ({
  ...of,
  ...more,
  model: { ...of.model, ...model },
});
/** Selection biases send every token where the case wants it. */
const steered = (of: Case, capacity_factor: number | null): Case =>
  change({ ...of, model: withoutCoefficients(of.model) }, { arch: "top1", balance: "bias", capacity_factor });

const TWISTED: Readonly<Record<Twist, (of: Case) => Case>> = {
  "a rank that gets no token": (of) => steered(of, null),
  "an expert without tokens": (of) => steered(of, null),
  "all tokens to one expert with one row": (of) => steered(of, 1e-3),
  "ties in the gate": (of) => change(of, { gate_noise: false }),
  "losses divided by micro-batches": (of) =>
    change(
      of,
      {
        capacity_factor: null,
        balance: "aux",
        balance_statistics: "global",
        router_aux_loss_coef: 1,
        router_z_loss_coef: 0.1,
      },
      { wire: "f32", microBatches: Math.max(2, of.microBatches) },
    ),
  "gradients of experts on EP × DP": (of) => of,
  "k = 1 whose gate learns": (of) => {
    const hasShared = /^(shared|scmoe|farskip)/.test(of.model.arch);
    return change(hasShared ? of : { ...of, model: withoutCoefficients(of.model) }, {
      arch: hasShared ? "scmoe1-pos2" : "top1",
      balance: "none",
      balance_groups: undefined,
      router_z_loss_coef: 0,
      gate_noise: false,
    });
  },
  "a checkpoint that changes layouts": (of) => of,
};

function withoutCoefficients({ coefficient_gate: _, ...model }: ModelInput): ModelInput {
  return model;
}

/** What one rank runs to do the same: groups of micro-batches, a step being the mean over the groups. */
export type Pieces =
  /** The whole step at once. */
  | "whole"
  /** A micro-batch of all ranks at once. */
  | "micro-batches"
  /** Each rank's rows of each micro-batch. */
  | "pieces"
  /** The same, with one balance loss per micro-batch of all ranks. */
  | "grouped pieces";

/** Capacity is per rank and micro-batch; what the balance loss counts depends on the model. */
export function piecesOf({ model }: Case): Pieces {
  const config = resolveModel(model);
  const { balance_statistics: of, capacity_factor, architecture } = config;
  if (architecture.routed === "none") return "whole";
  const counts = hasBalanceLoss(config) ? of : "global";
  if (counts === "rank") return "pieces";
  if (capacity_factor === null) return counts === "micro_batch" ? "micro-batches" : "whole";
  return counts === "micro_batch" ? "grouped pieces" : "pieces";
}

/** Whether rows are rounded on their way: only those that go to experts on other ranks. */
export function isRounded({ wire, ep, model }: Case): boolean {
  return wire === "bf16" && ep > 1 && model.arch !== "dense";
}

export function describe(of: Case): string {
  const { model, ranks, ep, zero, wire, policy, microBatches, batch, sequence, twist } = of;
  const balance = model.balance === "aux" ? `aux ${model.balance_statistics}` : model.balance;
  return [
    `${model.arch} ${model.style}`,
    `${ranks} ranks (EP ${ep}${zero ? ", ZeRO" : ""}, ${of.transport}, ${wire})`,
    policy,
    `${microBatches} × ${batch} × ${sequence}`,
    `N ${model.num_experts}`,
    `capacity ${model.capacity_factor}`,
    balance,
    ...(twist === undefined ? [] : [twist]),
  ].join(", ");
}
