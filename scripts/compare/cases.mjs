// What compare-checkouts trains: every architecture × policy × ranks × style, and options one by one.

export const ARCHITECTURES = [
  ...["dense", "top1", "top2", "top3", "shared"],
  ...["scmoe-pos1", "scmoe-pos2", "scmoe-pos3", "scmoe-pos2-l0pos1", "scmoe2-pos2"],
  ...["dgmoe", "dgmoe-share", "longcat", "farskip", "farskip2"],
];
export const POLICIES = ["sequential", "pipelined(2)", "adaptive"];
export const RANKS = [1, 2, 4];
export const STYLES = ["gpt", "llama"];

/** Small enough to train in a second; beta1 = 0 makes the first moment of a step its clipped gradient. */
const MINI = [
  "model.vocab_size=300",
  "model.hidden_size=32",
  "model.intermediate_size=64",
  "model.num_attention_heads=2",
  "model.num_hidden_layers=4",
  "model.num_experts=4",
  "model.max_position_embeddings=32",
  "train.batch_size=8",
  "train.eval_batches=1",
  "train.eval_interval=5",
  "train.betas=[0,0.95]",
  "train.checkpoint_interval=1",
];

/** Options beside the matrix: each in every style, with the models of SPECIAL_MODELS, on its own number of ranks. */
const SPECIALS = [
  { ranks: 2, set: ["model.capacity_factor=1"] },
  { ranks: 2, set: ["model.gate_noise=true"] },
  { ranks: 2, set: ["model.balance=bias"] },
  { ranks: 2, set: ["model.balance_statistics=rank"] },
  { ranks: 2, set: ["model.balance_statistics=micro_batch", "train.micro_batch_size=2"] },
  { ranks: 2, set: ["model.router_z_loss_coef=0.01"] },
  { ranks: 2, set: ["model.router_scores=sigmoid", "model.expert_groups=2", "model.expert_groups_kept=1"] },
  { ranks: 2, set: ["model.num_zero_experts=2", "model.balance=bias", "model.balance_groups=2"] },
  { ranks: 2, set: ["model.num_key_value_heads=1"] },
  { ranks: 2, set: ["model.moe_layer_interval=1"] },
  { ranks: 2, set: ["train.micro_batch_size=2"] },
  { ranks: 2, set: ["train.split_weight_gradients=true"] },
  { ranks: 2, set: ["train.recompute=true"] },
  { ranks: 2, set: ["data.document_mask=true"] },
  { ranks: 2, set: ["data.document_mask=true", "train.recompute=true", "train.split_weight_gradients=true"] },
  { ranks: 2, set: ["parallel.wire=bf16"] },
  { ranks: 2, set: ["parallel.zero=true"] },
  { ranks: 2, set: ["parallel.expert_parallel=1"] },
  { ranks: 4, set: ["parallel.expert_parallel=2"] },
  { ranks: 4, set: ["parallel.expert_parallel=2", "parallel.zero=true", "train.micro_batch_size=1"] },
];
const SPECIAL_MODELS = [
  { arch: "top2", policy: "pipelined(2)" },
  { arch: "scmoe-pos2", policy: "adaptive" },
];

/**
 * @param wanted lists `archs`, `policies`, `ranks`, `styles`: the matrix is their product, and of the special
 *   cases those whose architecture, policy, ranks and style are among them
 * @returns {{ name: string, ranks: number, set: string[] }[]} `set` is what `train --set` takes
 */
export function listCases({ archs, policies, ranks, styles, steps }) {
  const cross = (rows, key, values) =>
    rows.flatMap((row) => values.map((value) => ({ ...row, [key]: value })));
  const matrix = cross(cross(cross(cross([{ set: [] }], "arch", archs), "policy", policies), "ranks", ranks), "style", styles); // prettier-ignore
  const specials = SPECIALS.flatMap((special) => SPECIAL_MODELS.map((model) => ({ ...special, ...model })));
  const isWanted = (one) =>
    archs.includes(one.arch) && policies.includes(one.policy) && ranks.includes(one.ranks);
  return [...matrix, ...cross(specials.filter(isWanted), "style", styles)].map(
    ({ arch, policy, ranks, style, set }) => ({
      name: [arch, policy, `${ranks} ranks`, style, ...set].join(" "),
      ranks,
      set: [
        ...MINI,
        `model.arch=${arch}`,
        `model.style=${style}`,
        `schedule.policy=${policy}`,
        `train.steps=${steps}`,
        `train.keep_checkpoints=${steps}`,
        ...set,
      ],
    }),
  );
}
