/** A model, ready for sequences: its tokenizer here, its weights and cache on this thread or on ranks elsewhere. */
import type { Link } from "../comm/link.js";
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import { type Tokenizer, loadTokenizer } from "../data/tokenizer.js";
import type { WeightForm } from "../kernel/quantise.js";
import type { LineEvent } from "../launch/job.js";
import type { ModelConfig } from "../model/config.js";
import { type OpenModel, openModel } from "../run/open-model.js";
import type { InferenceEngine } from "./engine.js";
import { launchRunner } from "./ranks/launched-runner.js";
import { localRunner } from "./ranks/local-runner.js";
import { type ModelTask, modelJob, openModelRunner } from "./ranks/model-ranks.js";
import type { StepTimelines } from "./ranks/model-runner.js";
import { type ScheduledEngineOptions, createScheduledEngine } from "./batching/scheduled-engine.js";
import type { StepRunner } from "./step-plan.js";

export interface EngineOptions {
  /**
   * Ranks as threads, each with a part of the experts; under an MPI launcher its processes. Undefined: the model runs on this thread, and
   * the event loop turns between steps.
   */
  readonly ranks?: number | undefined;
  readonly link?: Link | undefined;
  readonly deadlineMs?: number | undefined;
  /** Sequences that a rank runs at once. Default 8. */
  readonly slots?: number | undefined;
  /** Tokens of a sequence, prompt and new ones. Default: the model's max_position_embeddings. */
  readonly contextLength?: number | undefined;
  /** Tokens of a prompt that are read in one step. Default 128. */
  readonly chunk?: number | undefined;
  /** Bytes of cache that a rank may touch. Default: what all its sequences need when they are full. */
  readonly cacheBytes?: number | undefined;
  /** How transfers are hidden. Default "adaptive". */
  readonly policy?: string | undefined;
  /** In which form weights of matrix products are held. Default "f32". */
  readonly form?: WeightForm | undefined;
  readonly onLine?: ((event: LineEvent) => void) | undefined;
  readonly onStep?: ScheduledEngineOptions["onStep"];
}

export interface OpenEngine {
  readonly engine: InferenceEngine;
  readonly config: ModelConfig;
  readonly directory: string;
  /** A published folder may have none: then there are only token ids. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Tokens after which a text ends. */
  readonly endTokens: readonly number[];
  /** Of the last step, on all ranks; undefined before the first. Launched ranks are asked between two steps. */
  readonly timeline: () => Promise<StepTimelines | undefined>;
  /** When the ranks have ended; rejects when one is lost. */
  readonly ended: Promise<void>;
}

export const ENGINE = { slots: 8, chunk: 128, policy: "adaptive", form: "f32" } as const;

/**
 * @returns undefined in processes of an MPI launcher other than rank 0's, once all has ended: they have only their rank
 * @throws InputError when the model is missing, damaged or not supported, or its tokenizer belongs to another; EnvironmentError when a rank is
 *   lost while it opens the model
 */
export async function openEngine(path: string, options: EngineOptions = {}): Promise<OpenEngine | undefined> {
  const { config, directory, tokenizer: file } = checkedModel(path);
  const tokenizer = file === undefined ? undefined : loadTokenizer(file);
  if (tokenizer !== undefined && tokenizer.vocabSize > config.vocab_size)
    throw new InputError(
      `${directory}: tokenizer.json has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${config.vocab_size}; they belong to different models`,
    );
  const opened = await openRunner(taskOf(directory, config, options), options);
  if (opened === undefined) return undefined;
  const { runner, ended, timeline } = opened;
  return {
    engine: createScheduledEngine({ runner, vocabSize: config.vocab_size, onStep: options.onStep }),
    config,
    directory,
    tokenizer,
    endTokens: config.end_tokens ?? (tokenizer === undefined ? [] : [tokenizer.endOfText]),
    timeline,
    ended,
  };
}

/** Every byte compared with what was written, as far as that is known; the ranks read the weights. */
function checkedModel(path: string): Pick<OpenModel, "config" | "directory" | "tokenizer"> {
  const model = openModel(path);
  try {
    model.verify();
    return model;
  } finally {
    model.close();
  }
}

function taskOf(directory: string, config: ModelConfig, options: EngineOptions): ModelTask {
  const longest = config.max_position_embeddings;
  const { contextLength = longest, slots = ENGINE.slots, chunk = ENGINE.chunk } = options;
  if (contextLength > longest)
    throw new InputError(
      `A context of ${contextLength} is beyond the model's max_position_embeddings ${longest}`,
    );
  return {
    directory,
    form: options.form ?? ENGINE.form,
    slots,
    capacity: contextLength,
    chunk: Math.min(chunk, contextLength),
    cacheBytes: options.cacheBytes,
    policy: options.policy ?? ENGINE.policy,
  };
}

interface OpenRunner {
  readonly runner: StepRunner;
  readonly timeline: OpenEngine["timeline"];
  readonly ended: Promise<void>;
}

async function openRunner(
  task: ModelTask,
  { ranks, link, deadlineMs, onLine }: EngineOptions,
): Promise<OpenRunner | undefined> {
  if (ranks === undefined) {
    const model = openModelRunner(singleCommunicator(), task);
    const timeline = () => Promise.resolve(model.answer?.(undefined)) as ReturnType<OpenEngine["timeline"]>;
    return { runner: localRunner(model), timeline, ended: Promise.resolve() };
  }
  const { runner, ended } = await launchRunner(modelJob, task, { ranks, link, deadlineMs, onLine });
  if (runner === undefined) {
    await ended;
    return undefined;
  }
  return { runner, timeline: () => runner.ask("timeline") as ReturnType<OpenEngine["timeline"]>, ended };
}
