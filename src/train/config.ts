/** The configuration of a run: YAML, presets, `--set a.b=c`. */
import { z } from "zod";
import { BOUNDS, defaultSequence } from "../core/bounds.js";
import { InputError, didYouMean } from "../core/errors.js";
import { DEFAULT_ENCODING, checkEncoding } from "../data/encoding.js";
import {
  type ModelConfig,
  type ModelInput,
  modelSchema,
  modelToJson,
  resolveModel,
} from "../model/config.js";
import { shown } from "../core/shown.js";
import { parseWith } from "../core/parse.js";
import { parseYaml } from "../core/yaml.js";
import { PRESETS, preset } from "../model/presets.js";
import { type ConfigKey, schemaKeys } from "../model/schema-keys.js";
import { parsePolicy } from "../schedule/policy.js";
import { readText } from "../storage/files.js";

/** Where nothing else is said. */
const DISTILLATION = { temperature: 1, weight: 0.5 } as const;

/** Bounds that no run comes near, so that sums and products of sizes stay whole, and rates finite in 32 bits. */
const positive = z.number().int().positive().max(BOUNDS.steps.to);
const aboveZero = z.number().positive().max(1e9);
const fromZero = z.number().nonnegative().max(1e9);
const beta = z.number().min(0).lt(1);

const distillSchema = z.strictObject({
  teacher: z.string().describe("Run directory, checkpoint or folder of a model with the same tokens"),
  temperature: aboveZero.max(1e3).default(DISTILLATION.temperature),
  weight: z.number().min(0).max(1).default(DISTILLATION.weight),
});

export const trainSchema = z.strictObject({
  steps: positive.default(1000).describe("Optimiser steps"),
  batch_size: positive.max(BOUNDS.batch.to).default(8).describe("Sequences per step, over all ranks"),
  micro_batch_size: positive
    .max(BOUNDS.batch.to)
    .optional()
    .describe("Sequences per rank at a time; default: all of the rank's at once"),
  micro_batches_at_once: positive
    .max(BOUNDS.batch.to)
    .optional()
    .describe("Micro-batches in one program, so that one's transfers hide behind another; default: up to 4"),
  learning_rate: aboveZero.default(1e-3).describe("Peak, after warm-up"),
  min_learning_rate: fromZero.optional().describe("End of the cosine; default a tenth"),
  warmup_steps: z
    .number()
    .int()
    .nonnegative()
    .max(BOUNDS.steps.to)
    .optional()
    .describe("Default a twentieth of decay_steps"),
  decay_steps: positive
    .max(BOUNDS.steps.to)
    .optional()
    .describe("Steps to the end of the cosine, warm-up included; default the steps the run starts with"),
  weight_decay: fromZero.default(0.1).describe("Decoupled; on tensors of two or more dimensions"),
  betas: z
    .tuple([beta, beta])
    .default([0.9, 0.95])
    .describe("AdamW: decay of the two moments, each from 0 to below 1"),
  eps: aboveZero.max(1).default(1e-8).describe("AdamW: added to the root of the second moment"),
  clip_norm: aboveZero
    .nullable()
    .default(1)
    .describe("Largest gradient norm over the whole model; null: no clipping"),
  seed: z.number().int().nonnegative().default(0).describe("Of initial weights, data order and gate noise"),
  log_interval: positive.default(1).describe("Steps between rows of metrics.jsonl"),
  eval_interval: positive.optional().describe("Steps between evaluations; default: only at the end"),
  eval_batches: positive
    .default(128)
    .describe("Sequences per evaluation at most, on all ranks together; each counts once"),
  eval_capacity: z
    .boolean()
    .default(false)
    .describe("Evaluate with the model's capacity_factor, dropping tokens as training does"),
  checkpoint_interval: positive.optional().describe("Steps between checkpoints; default: by time only"),
  checkpoint_minutes: aboveZero
    .nullable()
    .default(15)
    .describe("Minutes between checkpoints, the first after one at most; null: not by time"),
  keep_checkpoints: positive.default(2).describe("Newest checkpoints kept"),
  on_nonfinite: z
    .enum(["stop", "skip"])
    .default("stop")
    .describe("A step with a NaN or infinite loss, gradient or gate logit is never applied: end, or go on"),
  recompute: z
    .boolean()
    .default(false)
    .describe("Recompute activations in the backward pass instead of keeping them"),
  distill: distillSchema
    .optional()
    .describe(
      `Learn from a model, too: teacher (a folder), temperature [${DISTILLATION.temperature}], weight [${DISTILLATION.weight}] of its divergence in the loss; that of cross-entropy is the rest`,
    ),
  split_weight_gradients: z.boolean().default(false).describe("Weight gradients as operators of their own"),
});

export const runSchema = z.strictObject({
  model: z.looseObject({ preset: z.string().optional() }).default({ preset: "tiny" }),
  data: z
    .strictObject({
      corpus: z
        .string()
        .default("sotu")
        .describe('"sotu", a text file, or a directory of .txt files, subdirectories included'),
      encoding: z
        .string()
        .default(DEFAULT_ENCODING)
        .describe("Of the text files: utf-8, latin1, utf-16le … (names of the WHATWG Encoding Standard)"),
      tokenizer: z.string().optional().describe("A tokenizer.json to use instead of training one"),
      sequence_length: positive
        .max(BOUNDS.sequence.to)
        .optional()
        .describe("Default max_position_embeddings"),
      document_mask: z
        .boolean()
        .default(false)
        .describe("No document sees another in its window; positions restart in each"),
      cache: z.string().default(".scmoe/cache").describe("Where tokenizers and token files are kept"),
    })
    .prefault({}),
  train: trainSchema.prefault({}),
  parallel: z
    .strictObject({
      expert_parallel: positive
        .max(BOUNDS.epSize.to)
        .optional()
        .describe("Ranks that share one copy of the experts; default all"),
      zero: z.boolean().default(false).describe("Shard the optimiser state of replicated weights (ZeRO-1)"),
      wire: z.enum(["f32", "bf16"]).default("f32").describe("Type of rows on the network"),
      wire_gradients: z.enum(["f32", "bf16"]).default("f32").describe("Type of gradients on the network"),
    })
    .prefault({}),
  schedule: z
    .strictObject({
      policy: z
        .string()
        .default("adaptive")
        .describe("sequential, pipelined(n), fixed(K), fixed(four-stage), adaptive"),
    })
    .prefault({}),
});

/** Every key a config may have, for help and suggestions. */
export function listKeys(): ConfigKey[] {
  const { model: _model, ...sections } = runSchema.shape;
  return [
    {
      key: "model.preset",
      type: "string",
      description: `Sizes to start from: ${Object.keys(PRESETS).join(", ")}`,
    },
    ...schemaKeys(modelSchema, "model"),
    ...Object.entries(sections).flatMap(([name, section]) => schemaKeys(section.unwrap(), name)),
  ];
}

/** The configuration of a run as it is written; what is left out has a default. */
export interface RunInput extends Omit<z.input<typeof runSchema>, "model"> {
  /** A preset (default "tiny") and what differs from it, or a whole model. */
  readonly model?: Partial<ModelInput> & { readonly preset?: string };
}

/** The configuration of a run with every default resolved. */
export interface RunConfig extends Omit<z.output<typeof runSchema>, "model" | "data" | "train"> {
  /** Resolved model as plain JSON (`modelOf` makes it a ModelConfig again). */
  readonly model: Record<string, unknown>;
  readonly data: z.output<typeof runSchema>["data"] & { readonly sequence_length: number };
  readonly train: z.output<typeof trainSchema> &
    Record<"min_learning_rate" | "warmup_steps" | "decay_steps", number>;
}

export function modelOf(config: RunConfig): ModelConfig {
  return resolveModel(config.model, "model");
}

/** @throws InputError naming file, key, value found and value wanted */
export function resolveRun(input: unknown, where: string): RunConfig {
  const raw = parseWith(runSchema, input ?? {}, where);
  const { preset: name, ...overrides } = raw.model;
  // A model that states its width states everything; any other starts from a preset.
  const base = name === undefined ? ("hidden_size" in overrides ? {} : preset("tiny")) : preset(name);
  const model = resolveModel({ ...base, ...overrides }, `${where}: model`);
  checkEncoding(raw.data.encoding, `${where}: data.encoding`);
  const sequence = raw.data.sequence_length ?? defaultSequence(model.max_position_embeddings);
  if (sequence > model.max_position_embeddings)
    throw new InputError(
      `${where}: data.sequence_length ${sequence} is beyond max_position_embeddings ${model.max_position_embeddings}`,
    );
  const chunked = parsePolicy(raw.schedule.policy);
  if (chunked.chunks > raw.train.batch_size * sequence)
    throw new InputError(`${where}: schedule.policy ${raw.schedule.policy} has more chunks than tokens`);
  return {
    ...raw,
    model: modelToJson(model),
    data: { ...raw.data, sequence_length: sequence },
    train: withRates(raw.train),
  };
}

/** The learning rate's course, so that it is kept when a resumed run is given more steps. */
function withRates(train: z.output<typeof trainSchema>): RunConfig["train"] {
  const decay_steps = train.decay_steps ?? train.steps;
  return {
    ...train,
    min_learning_rate: train.min_learning_rate ?? train.learning_rate / 10,
    warmup_steps: train.warmup_steps ?? Math.ceil(decay_steps / 20),
    decay_steps,
  };
}

/** A model that a run starts from, with its tokenizer. */
export interface StartingPoint {
  readonly directory: string;
  readonly model: Readonly<Record<string, unknown>>;
  readonly tokenizer?: string | undefined;
}

/**
 * Reads a YAML file, applies overrides, resolves every default.
 * @param sets "train.steps=100" and the like; values are YAML
 * @param base where nothing is read from a file: what the sets change; `model`, `tokenizer`: what a run starts from, which
 *   everything else changes
 */
export function readRunConfig(
  path: string | undefined,
  sets: readonly string[],
  base: object = {},
  from?: StartingPoint,
): RunConfig {
  let input = structuredClone(base) as Record<string, unknown>;
  if (path !== undefined) {
    input = (parseYaml(readText(path, "the config"), path) ?? {}) as Record<string, unknown>;
    if (typeof input !== "object" || Array.isArray(input))
      throw new InputError(
        `${path}: wanted sections such as model, data, train; found ${Array.isArray(input) ? "a list" : typeof input}`,
      );
  }
  // Without a file, sets change a small model; a file that states a width states the whole model.
  if (path === undefined && from === undefined) input.model ??= { preset: "tiny" };
  for (const set of sets) applySet(input, set);
  if (from !== undefined) {
    const { preset: name, ...model } = (input.model ?? {}) as Record<string, unknown>;
    if (name !== undefined)
      throw new InputError(
        `model.preset is ${shown(name)}, but the model is that of ${from.directory}; leave it out`,
      );
    input.model = { ...from.model, ...model };
    input.data = { tokenizer: from.tokenizer, ...(input.data as object | undefined) };
  }
  return resolveRun(input, path ?? "config");
}

function applySet(target: Record<string, unknown>, set: string): void {
  const at = set.indexOf("=");
  if (at < 1) throw new InputError(`--set takes KEY=VALUE such as train.steps=100; found "${set}"`);
  const keys = set.slice(0, at).split(".");
  const sections = Object.keys(runSchema.shape);
  if (!sections.includes(keys[0])) {
    const hint =
      listKeys().find(({ key }) => key.endsWith(`.${keys[keys.length - 1]}`))?.key ??
      didYouMean(keys[0], sections);
    throw new InputError(
      `--set ${set}: unknown section "${keys[0]}"${hint ? `; did you mean "${hint}"?` : ` (known: ${sections.join(", ")})`}`,
    );
  }
  const isReserved = (key: string) => key === "" || key in Object.prototype;
  if (keys.length < 2 || keys.some(isReserved))
    throw new InputError(`--set takes SECTION.KEY=VALUE such as train.steps=100; found "${set}"`);
  let node = target;
  for (const key of keys.slice(0, -1)) {
    if (typeof node[key] !== "object" || node[key] === null) node[key] = {};
    node = node[key] as Record<string, unknown>;
  }
  node[keys[keys.length - 1]] = parseYaml(set.slice(at + 1), `--set ${set}`);
}
