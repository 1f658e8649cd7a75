/** What a resumed run may change, and what each change does to its numbers. */
import type { RunConfig } from "./config.js";

/** A key whose value is no longer what it was. */
export interface Change {
  /** "train.steps"; "ranks" for their number. */
  readonly key: string;
  readonly from: unknown;
  readonly to: unknown;
}

/**
 * none: the numbers stay what they were; rounding: sums are added in another order; from-here: the rest of the run is
 * trained differently, as asked; run: it is another run, which must be allowed by name.
 */
export type Effect = "none" | "rounding" | "from-here" | "run";

/** Keys without a row, and all of `data` and `model`, make another run. */
const EFFECTS: Readonly<Record<string, Effect>> = {
  "data.cache": "none",
  "train.steps": "none",
  "train.log_interval": "none",
  "train.eval_interval": "none",
  "train.eval_batches": "none",
  "train.eval_capacity": "none",
  "train.checkpoint_interval": "none",
  "train.checkpoint_minutes": "none",
  "train.keep_checkpoints": "none",
  "train.recompute": "none",
  "train.split_weight_gradients": "none",
  "train.on_nonfinite": "none",
  "schedule.policy": "rounding",
  "train.micro_batch_size": "rounding",
  "train.micro_batches_at_once": "rounding",
  "parallel.expert_parallel": "rounding",
  "parallel.zero": "rounding",
  ranks: "rounding",
  "parallel.wire": "from-here",
  "parallel.wire_gradients": "from-here",
  "train.learning_rate": "from-here",
  "train.min_learning_rate": "from-here",
  "train.warmup_steps": "from-here",
  "train.decay_steps": "from-here",
  "train.weight_decay": "from-here",
  "train.betas": "from-here",
  "train.eps": "from-here",
  "train.clip_norm": "from-here",
  "train.distill.temperature": "from-here",
  "train.distill.weight": "from-here",
  // Where the teacher lies; whether it is another one, its weights tell (`TEACHER`).
  "train.distill.teacher": "none",
};

/** The teacher itself, by the digest of its weights. */
export const TEACHER = "weights of train.distill.teacher";

export function effectOf({ key }: Pick<Change, "key">): Effect {
  return EFFECTS[key] ?? "run";
}

/** Keys with different values, in the order of the config. */
export function changesBetween(before: RunConfig, after: RunConfig): Change[] {
  return Object.entries(after).flatMap(([section, keys]) =>
    changedKeys(section, before[section as keyof RunConfig] as Keys, keys as Keys),
  );
}

type Keys = Readonly<Record<string, unknown>>;

function changedKeys(section: string, from: Keys, to: Keys): Change[] {
  const names = new Set([...Object.keys(from), ...Object.keys(to)]);
  return [...names]
    .filter((name) => JSON.stringify(from[name]) !== JSON.stringify(to[name]))
    .flatMap((name) => {
      const key = `${section}.${name}`;
      if (key !== "train.distill") return [{ key, from: from[name], to: to[name] }];
      return changedKeys(key, (from[name] ?? {}) as Keys, (to[name] ?? {}) as Keys);
    });
}

/** "train.steps 100 → 200" */
export function changeText({ key, from, to }: Change): string {
  const text = (value: unknown): string => (value === undefined ? "unset" : JSON.stringify(value));
  return `${key} ${text(from)} → ${text(to)}`;
}

/** What the changes of a kind do, for people. */
export function effectText(effect: Effect, config: RunConfig): string {
  if (effect === "none") return "the numbers stay what they would have been";
  if (effect === "from-here") return "from here on the run is trained differently";
  if (effect === "run") return "it is another run from here on; run.json records it";
  const { capacity_factor: capacity, balance_statistics: statistics } = config.model;
  const differs = [
    ...(capacity === null ? [] : ["capacity counts per rank and micro-batch, so other tokens are dropped"]),
    ...(statistics === "global" ? [] : [`the balance loss counts per ${String(statistics)}`]),
  ];
  return differs.length === 0
    ? "the numbers stay the same within rounding"
    : `the numbers change where rows are dealt differently: ${differs.join("; ")}`;
}
