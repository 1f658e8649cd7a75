/**
 * Rotary positions (method 2.2): pairs of a head's elements turn by an angle that is the position times a frequency of the
 * pair. Published models stretch the frequencies to sequences longer than those they were first trained on.
 */
import * as k from "../../kernel/build.js";
import type { Dim, Expr } from "../../kernel/kernel.js";
import type { RopeScaling } from "../attention-keys.js";

export interface Rope {
  readonly theta: number;
  readonly scaling?: RopeScaling | undefined;
  /** Which elements turn together: i and i + width/2 (the default), or 2i and 2i + 1. */
  readonly pairs?: "halves" | "neighbours";
}

type Yarn = Extract<RopeScaling, { rope_type: "yarn" }>;

/** Radians per position of each pair, width/2 of them. */
export function ropeFrequencies(width: number, { theta, scaling }: Rope): number[] {
  const plain = Array.from({ length: width / 2 }, (_, i) => Math.pow(theta, (-2 * i) / width));
  if (scaling === undefined) return plain;
  const { factor, original_max_position_embeddings: original } = scaling;
  switch (scaling.rope_type) {
    case "llama3": {
      // In turns over the original length: few are stretched, many stay, and between the two bounds it goes over linearly.
      const { low_freq_factor: few, high_freq_factor: many } = scaling;
      return plain.map((frequency) => {
        const turns = (original * frequency) / (2 * Math.PI);
        return mixed(frequency / factor, frequency, (turns - few) / (many - few));
      });
    }
    case "yarn": {
      const [first, last] = yarnRamp(width, theta, scaling);
      return plain.map((frequency, i) => mixed(frequency, frequency / factor, (i - first) / (last - first)));
    }
  }
}

/** a where the share is 0 or less, b where it is 1 or more. */
function mixed(a: number, b: number, share: number): number {
  const bounded = Math.min(1, Math.max(0, share));
  return a * (1 - bounded) + b * bounded;
}

/** The pairs between which YaRN goes from frequencies as they are to stretched ones. */
function yarnRamp(width: number, theta: number, scaling: Yarn): [first: number, last: number] {
  const { original_max_position_embeddings: original, beta_fast, beta_slow, truncate } = scaling;
  const pairOfTurns = (turns: number): number =>
    (width * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [pairOfTurns(beta_fast), pairOfTurns(beta_slow)];
  const first = Math.max(0, truncate ? Math.floor(fast) : fast);
  const last = Math.min(width - 1, truncate ? Math.ceil(slow) : slow);
  return [first, first === last ? last + 0.001 : last];
}

/** g(m) = 0.1·m·ln(factor) + 1: how much sharper scores are to be over sequences `factor` times as long. */
function sharpening(factor: number, m: number): number {
  return factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1;
}

/** What cos and sin are multiplied by. */
export function ropeFactor({ scaling }: Rope): number {
  if (scaling?.rope_type !== "yarn") return 1;
  const { factor, mscale, mscale_all_dim: all, attention_factor: given } = scaling;
  if (given !== undefined) return given;
  // A 0 counts as not given.
  return mscale && all ? sharpening(factor, mscale) / sharpening(factor, all) : sharpening(factor, 1);
}

/** What latent attention multiplies its scores by besides. */
export function latentScoreFactor({ scaling }: Rope): number {
  if (scaling?.rope_type !== "yarn" || scaling.mscale_all_dim === undefined) return 1;
  return sharpening(scaling.factor, scaling.mscale_all_dim) ** 2;
}

export interface RotaryTables {
  readonly cos: Expr;
  readonly sin: Expr;
}

/**
 * cos and sin of each row and column, [..., S, width], both halves alike.
 * @param rows their positions, i32 [..., S]; or their number S: then they are 0, 1, …, S − 1 and the tables constants
 */
export function rotaryTables(rows: Expr | number, width: number, rope: Rope): RotaryTables {
  const half = ropeFrequencies(width, rope);
  const frequencies = [...half, ...half];
  const factor = ropeFactor(rope);
  const table = (wave: "cos" | "sin"): Expr => {
    if (typeof rows !== "number") {
      const turned = k.rotary(rows, frequencies, wave);
      return factor === 1 ? turned : k.mul(turned, k.scalar(factor));
    }
    const values = Float32Array.from(
      { length: rows * width },
      (_, at) => factor * Math[wave](Math.floor(at / width) * frequencies[at % width]),
    );
    return k.constant(values, [rows, width]);
  };
  return { cos: table("cos"), sin: table("sin") };
}

/**
 * The rows of each head together: x [B, S, heads, width] → [B, heads, S, width]. Where neighbours turn together, the pairs'
 * first elements come first, then the second ones: queries and keys alike, so their products stay as they are, and
 * `k.rope` turns both kinds of pairs.
 * @param sizes expressions that tell B and S where they are symbols
 */
export function headRows(x: Expr, sizes: readonly Expr[], pairs: Rope["pairs"] = "halves"): Expr {
  if (pairs === "halves") return k.transpose(x, [0, 2, 1, 3]);
  const [B, S, heads, width] = x.dims as [Dim, Dim, number, number];
  const paired = k.reshape(x, [B, S, heads, width / 2, 2], ...sizes);
  return k.reshape(k.transpose(paired, [0, 2, 1, 4, 3]), [B, heads, S, width], ...sizes);
}
