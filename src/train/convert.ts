/** Conversion as a job of all ranks: measure the source, write the target, measure that. */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { barrier } from "../comm/collectives.js";
import { defaultSequence } from "../core/bounds.js";
import { greatestDivisor } from "../core/divisor.js";
import { InterruptedError } from "../core/errors.js";
import { type PreparedData, prepareData } from "../data/prepare.js";
import { jsonBytes } from "../data/tokenizer-files.js";
import type { Engine } from "../engine/engine.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { type JobContext, defineJob } from "../launch/job.js";
import { modelToJson } from "../model/config.js";
import { type MadeTensor, conversionOf } from "../model/convert/rules.js";
import type { RoutingUsage } from "../model/convert/start.js";
import { targetOf } from "../model/convert/target.js";
import { positionLines } from "../model/convert/window.js";
import { type ParameterCount, countParameters } from "../model/parameters.js";
import { convertedTensors } from "../run/convert-weights.js";
import { loadWeights } from "../run/load-weights.js";
import { checkTensors } from "../run/weight-checks.js";
import { type OpenModel, openModel } from "../run/open-model.js";
import { createRank } from "../run/rank.js";
import { exists, reading } from "../storage/files.js";
import { SHARD_GB, refuseToOverwrite, writeModelFolder } from "../storage/model-folder.js";
import { Evaluator } from "./evaluate.js";
import { routingUsage } from "./routing-usage.js";
import { trainingOf } from "./run-directory.js";

/** What to convert, to what, and how. */
export interface ConvertTask {
  /** Run directory (its newest checkpoint), checkpoint, or published folder. */
  readonly source: string;
  /** Name of an architecture. */
  readonly to: string;
  /** The converted model's folder: empty or not there yet. */
  readonly out: string;
  /** A shared expert where the source has none: the mean of the experts' weights, or the expert that takes most rows (the default). */
  readonly shared?: "mean" | "most-used" | undefined;
  /** Share of a block's output with which routed experts begin beside a new shared expert. Default 0.75, of a dense source 0.1. */
  readonly routedShare?: number | undefined;
  /** Of a dense source: experts per MoE block (default 8), and every n-th block becomes MoE (default 2). */
  readonly experts?: number | undefined;
  readonly interval?: number | undefined;
  /** Of a dense source: deviation of its experts' noise, relative to the root mean square of a tensor. Default 0.01. */
  readonly noise?: number | undefined;
  /** Of noise and new gates. Default 0. */
  readonly seed?: number | undefined;
  /** Text for losses and for the use of experts. Default: that of the source's run, else "sotu". */
  readonly corpus?: string | undefined;
  readonly encoding?: string | undefined;
  /** Where prepared token files are kept. Default .scmoe/cache. */
  readonly cache?: string | undefined;
  /** Held-out sequences for the losses at most. Default 128. */
  readonly batches?: number | undefined;
  /** Sequences per rank at a time. Default 4. */
  readonly batchSize?: number | undefined;
  /** Tokens per sequence. Default: as the source was trained, else the model's longest. */
  readonly sequence?: number | undefined;
}

/** A conversion; losses in nats per token of held-out text, null where the source has no tokenizer. */
export interface ConvertResult {
  /** The folder written. */
  readonly directory: string;
  readonly from: string;
  readonly to: string;
  readonly sourceLoss: number | null;
  readonly convertedLoss: number | null;
  readonly parameters: { readonly source: ParameterCount; readonly target: ParameterCount };
  /** Positions that the target's blocks offer to a shortcut, as lines; none where it has no shortcut. */
  readonly positions: readonly string[];
}

/** Sequences that are routed to see which experts are used. */
const USAGE_BATCHES = 8;
/** Files of a model that say how its text becomes tokens and when to stop. */
const COPIED = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "generation_config.json",
];

/** @throws InputError, EnvironmentError, CommError */
export const convertJob = defineJob(
  import.meta.url,
  "convertJob",
  async (context: JobContext, task: ConvertTask): Promise<ConvertResult> => {
    const engine = createOrtEngine();
    const source = openModel(task.source);
    try {
      return await convert({ context, task, engine, source });
    } finally {
      source.close();
      engine.dispose();
    }
  },
);

interface Conversion {
  readonly context: JobContext;
  readonly task: ConvertTask;
  readonly engine: Engine;
  readonly source: OpenModel;
}

async function convert(conversion: Conversion): Promise<ConvertResult> {
  const { context, task, engine, source } = conversion;
  const { world } = context;
  const target = targetOf(source.config, task.to, task);
  // What does not depend on text is refused before any of it is read.
  conversionOf(source.config, target, task);
  refuseToOverwrite(task.out);
  source.verify({ turn: world.rank, of: world.size });
  checkTensors(source.config, source.source, "refused");
  const positions = positionLines(target);
  for (const line of positions) context.say(line);
  const text = source.tokenizer === undefined ? undefined : textOf(conversion);
  if (text === undefined) context.say(`${source.directory} has no tokenizer: losses are not measured`);
  const measured = text && measureSource(conversion, text);
  const made = conversionOf(source.config, target, {
    ...task,
    // Without text nobody knows which expert is used most.
    shared: task.shared ?? (measured === undefined ? "mean" : undefined),
    usage: measured?.usage,
  });
  // Until all have looked whether there is something.
  barrier(world, "to be converted").wait();
  if (world.rank === 0)
    await write(conversion, { made, config: modelToJson(target), usage: measured?.usage });
  barrier(world, "converted").wait();
  const convertedLoss = text === undefined ? null : lossOf({ ...conversion, engine }, text);
  return {
    directory: task.out,
    from: source.config.arch,
    to: target.arch,
    sourceLoss: measured?.loss ?? null,
    convertedLoss,
    parameters: { source: countParameters(source.config), target: countParameters(target) },
    positions,
  };
}

/** Text and how it is cut. */
interface Text {
  readonly data: PreparedData;
  readonly sequence: number;
  readonly batch: number;
  readonly batches: number;
  readonly endOfText: number | undefined;
}

function textOf({ context, task, source }: Conversion): Text {
  const { data: trained } = trainingOf(source.directory);
  const { cache = ".scmoe/cache", batches = 128, batchSize: batch = 4 } = task;
  const { config } = source;
  const data = prepareData({
    corpus: task.corpus ?? trained.corpus ?? "sotu",
    encoding: task.encoding ?? (task.corpus === undefined ? trained.encoding : undefined),
    say: (line) => context.say(line),
    vocabSize: config.vocab_size,
    tokenizer: source.directory,
    cacheDirectory: cache,
    onProgress: (what, share) => {
      if (context.interrupted()) throw new InterruptedError("Interrupted while preparing data");
      context.progress(`${what} ${(share * 100).toFixed(0)} %`);
    },
  });
  const longest = defaultSequence(config.max_position_embeddings);
  const sequence = Math.min(task.sequence ?? trained.sequence_length ?? longest, longest);
  return {
    data,
    sequence,
    batch,
    batches,
    endOfText: trained.document_mask ? data.tokenizer.endOfText : undefined,
  };
}

function measureSource(
  conversion: Conversion,
  text: Text,
): { readonly loss: number; readonly usage: ReadonlyMap<number, RoutingUsage> } {
  const { context, source, task } = conversion;
  context.progress("measuring the source");
  const rank = rankOf(conversion, source);
  const { batch, sequence, endOfText } = text;
  const target = targetOf(source.config, task.to, task);
  const shape = { batch, sequence, batches: USAGE_BATCHES, endOfText };
  const usage = routingUsage(rank, text.data.train, { ...shape, target });
  return { loss: evaluatorOf(rank, text).run(), usage };
}

function lossOf(conversion: Conversion, text: Text): number {
  conversion.context.progress("measuring the converted model");
  const converted = openModel(conversion.task.out);
  try {
    return evaluatorOf(rankOf(conversion, converted), text).run();
  } finally {
    converted.close();
  }
}

function rankOf({ context: { world }, engine }: Conversion, { config, source }: OpenModel) {
  const epSize = greatestDivisor(world.size, config.num_experts);
  const rank = createRank({ config, engine, world, epSize });
  loadWeights(rank, source);
  return rank;
}

function evaluatorOf(rank: ReturnType<typeof rankOf>, { data, sequence, batch, batches, endOfText }: Text) {
  const shape = { sequence, batch, sequences: batches, withCapacity: false, endOfText };
  return new Evaluator(rank, data.validation, shape);
}

async function write(
  { task, source }: Conversion,
  of: {
    readonly made: readonly MadeTensor[];
    readonly config: Record<string, unknown>;
    readonly usage: ReadonlyMap<number, RoutingUsage> | undefined;
  },
): Promise<void> {
  const { seed = 0, to, shared, noise, routedShare } = task;
  const copied = COPIED.map((name) => join(source.directory, name)).filter((path) => exists(path));
  await writeModelFolder(task.out, {
    tensors: convertedTensors(source.source, of.made, seed),
    files: new Map([
      ["config.json", jsonBytes(of.config)],
      [
        "conversion.json",
        jsonBytes({
          source: source.directory,
          from: source.config.arch,
          to,
          seed,
          shared,
          noise,
          routed_share: routedShare,
          usage: of.usage && Object.fromEntries(of.usage),
        }),
      ],
      ...copied.map((path) => [basename(path), reading(path, () => readFileSync(path))] as const),
    ]),
    withDigests: true,
    shardBytes: SHARD_GB * 1e9,
  });
}
