/** How each tensor of a converted model is made from tensors of its source. A table of rules; the first that fits holds. */
import { InputError } from "../../core/errors.js";
import type { ModelConfig } from "../config.js";
import { listParameters } from "../parameters.js";
import type { ParameterInfo } from "../parts/part.js";
import { type RoutingUsage, type StartFactors, startFactors } from "./start.js";

/** How a tensor is made. */
export type Recipe =
  /**
   * The mean of tensors of the source, times a factor, plus normal noise whose deviation is relative to the root mean square of
   * what it is added to.
   */
  | {
      readonly make: "mean";
      readonly from: readonly string[];
      readonly factor: number;
      readonly noise: number;
    }
  | { readonly make: "normal"; readonly deviation: number }
  | { readonly make: "fill"; readonly value: number };

/** A tensor of the target and how it is made. */
export interface MadeTensor {
  readonly info: ParameterInfo;
  readonly recipe: Recipe;
}

export interface ConvertOptions {
  /** A shared expert where the source has none: mean of the experts' weights, or the expert that took most rows. Default most-used. */
  readonly shared?: "mean" | "most-used" | undefined;
  /** Noise of experts copied from an MLP, relative to the root mean square of a tensor. Default 0.01. */
  readonly noise?: number | undefined;
  /** Share of a block's term that the routed experts begin with, where the shared expert is new. Default by `ROUTED_SHARE`. */
  readonly routedShare?: number | undefined;
  /** Of the MoE blocks of the source, by layer. */
  readonly usage?: ReadonlyMap<number, RoutingUsage> | undefined;
}

export const DEFAULT_NOISE = 0.01;
/** Of a gate that did not exist: small, so that the first steps, not chance, decide who is sent where. */
const GATE_DEVIATION = 0.002;

interface Context {
  readonly source: ModelConfig;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly options: ConvertOptions;
  readonly factorsOf: (layer: number) => StartFactors;
}

interface Rule {
  /** Of the target's name. */
  readonly pattern: RegExp;
  /**
   * @param layer of the tensor's block
   * @returns undefined when the source has not what it takes
   */
  readonly recipe: (match: RegExpMatchArray, context: Context, layer: number) => Recipe | undefined;
}

const copy = (from: string, factor = 1, noise = 0): Recipe => ({ make: "mean", from: [from], factor, noise });
const block = (name: string): string => `model\\.layers\\.(?<block>\\d+)\\.${name}$`;
const isLast = (rest: string): boolean => rest.startsWith("down_proj.");

const RULES: readonly Rule[] = [
  {
    pattern: new RegExp(block(String.raw`mlp\.experts\.(?<expert>\d+)\.(?<rest>.+)`)),
    recipe({ 0: name, groups: { rest } = {} }, { shapes, options, factorsOf }, at) {
      const factor = isLast(rest) ? factorsOf(at).routed : 1;
      if (shapes.has(name)) return copy(name, factor);
      const mlp = `model.layers.${at}.mlp.${rest}`;
      return shapes.has(mlp) ? copy(mlp, factor, options.noise ?? DEFAULT_NOISE) : undefined;
    },
  },
  {
    pattern: new RegExp(block(String.raw`mlp\.shared_expert\.(?<rest>.+)`)),
    recipe({ 0: name, groups: { rest } = {} }, context, at) {
      const { shapes, source, options, factorsOf } = context;
      const factor = isLast(rest) ? factorsOf(at).shared : 1;
      if (shapes.has(name)) return copy(name, factor);
      const mlp = `model.layers.${at}.mlp.${rest}`;
      if (shapes.has(mlp)) return copy(mlp, factor);
      const expert = (e: number): string => `model.layers.${at}.mlp.experts.${e}.${rest}`;
      if (!shapes.has(expert(0))) return undefined;
      const { shared = "most-used", usage } = options;
      if (shared === "most-used") return copy(expert(mostUsed(usage?.get(at)?.rows)), factor);
      const from = Array.from({ length: source.num_experts }, (_, e) => expert(e));
      return { make: "mean", from, factor, noise: 0 };
    },
  },
  {
    pattern: new RegExp(block(String.raw`mlp\.shared_expert_gate\.weight`)),
    recipe: ([name], { shapes }) => (shapes.has(name) ? copy(name) : { make: "fill", value: 0 }),
  },
  {
    // What the gate read before, if it did not read through the shortcut already.
    pattern: new RegExp(block(String.raw`mlp\.shortcut_layernorm\.(?<rest>.+)`)),
    recipe({ 0: name, groups: { rest } = {} }, { shapes }, at) {
      const before = `model.layers.${at}.post_attention_layernorm.${rest}`;
      return shapes.has(name) ? copy(name) : shapes.has(before) ? copy(before) : undefined;
    },
  },
  {
    pattern: new RegExp(block(String.raw`mlp\.gate\.(?<rest>weight|noise\.weight|selection_bias)`)),
    recipe({ 0: name, groups: { rest } = {} }, { shapes }) {
      if (shapes.has(name)) return copy(name);
      return rest === "weight" ? { make: "normal", deviation: GATE_DEVIATION } : { make: "fill", value: 0 };
    },
  },
  { pattern: /^.*$/, recipe: ([name], { shapes }) => (shapes.has(name) ? copy(name) : undefined) },
];

function mostUsed(rows: readonly number[] = [1]): number {
  return rows.indexOf(Math.max(...rows));
}

/**
 * A recipe for every tensor of the target, in its order. Pure: shapes are those of the configs.
 * @throws InputError naming a tensor that the source has nothing for
 */
export function conversionOf(
  source: ModelConfig,
  target: ModelConfig,
  options: ConvertOptions = {},
): MadeTensor[] {
  const shapes = new Map(listParameters(source).map(({ name, dims }) => [name, dims]));
  const { usage, routedShare } = options;
  const factorsOf = (layer: number): StartFactors =>
    startFactors(source, target, { usage: usage?.get(layer), routedShare });
  return listParameters(target).map((info) => {
    const fail = (text: string): never => {
      throw new InputError(`A ${source.arch} model cannot be converted to ${target.arch}: ${text}`);
    };
    const recipe =
      recipeOf(info.name, { source, shapes, options, factorsOf }) ??
      fail(`it has nothing to make "${info.name}" from`);
    for (const from of recipe.make === "mean" ? recipe.from : []) {
      const found = shapes.get(from)?.join(", ");
      if (found !== info.dims.join(", "))
        fail(`"${info.name}" is [${info.dims.join(", ")}], and "${from}" is [${found}]`);
    }
    return { info, recipe };
  });
}

function recipeOf(name: string, context: Context): Recipe | undefined {
  for (const { pattern, recipe } of RULES) {
    const match = name.match(pattern);
    if (match !== null) return recipe(match, context, Number(match.groups?.block ?? -1));
  }
  return undefined;
}
