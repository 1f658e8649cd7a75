/** From what a caller says of a model that is to write, to an engine's options; what it will need is said, and checked, before. */
import { launcherSize } from "../comm/mpi/library.js";
import { BOUNDS, checkBounds } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { engineNeed } from "../infer/memory-need.js";
import { ENGINE, type EngineOptions } from "../infer/open-engine.js";
import { QUANTISED_FORMS, type QuantisedForm } from "../kernel/quantise.js";
import type { LineEvent } from "../launch/job.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { openModel } from "../run/open-model.js";
import { parsePolicy } from "../schedule/policy.js";
import { announceMemory, rankPlaces } from "./memory.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** A model, where it runs, and what it may hold. */
export interface GeneratorOptions extends MemoryOptions, Pick<RunOptions, "link" | "deadlineMs"> {
  /** Run directory (its newest checkpoint), checkpoint or published folder. */
  readonly model: string;
  /**
   * Ranks as threads, or the processes of an MPI launcher. Default: this thread; the event loop turns between tokens. Any number gives the
   * same text.
   */
  readonly ranks?: number | undefined;
  /** How transfers between ranks are hidden. Default "adaptive". */
  readonly policy?: string | undefined;
  /** Holds the weights of matrix products in 8 or 4 bits. Default: as f32. */
  readonly quantize?: QuantisedForm | undefined;
  /** Texts that a rank writes at once; others wait. Default 8. */
  readonly slots?: number | undefined;
  /** Tokens of a text with its prompt; what outgrows it goes on with its latest half. Default: the model's longest. */
  readonly contextLength?: number | undefined;
  /**
   * Bytes of keys and values that a rank may hold. What does not fit waits, or is read again later. Default: what all its texts need when
   * they are as long as the context.
   */
  readonly cacheBytes?: number | undefined;
  /** Hears what memory it will take. */
  readonly onEvent?: ((event: LineEvent) => void) | undefined;
}

/**
 * @param command what is asked, for errors
 * @param thread of one rank: this one, or one of its own
 * @throws InputError when an option makes no sense, the model is none, or there is too little memory
 */
export function engineOptions(
  command: string,
  options: GeneratorOptions,
  thread: "process" | "own",
): EngineOptions {
  const {
    ranks,
    policy = ENGINE.policy,
    quantize,
    slots = ENGINE.slots,
    cacheBytes,
    contextLength,
  } = options;
  checkBounds(
    command,
    { slots, cacheBytes, contextLength },
    { slots: BOUNDS.slots, cacheBytes: BOUNDS.cacheBytes, contextLength: { whole: true, from: 2 } },
  );
  if (quantize !== undefined && !QUANTISED_FORMS.includes(quantize))
    throw new InputError(`${command}: quantize is ${shown(quantize)}, wanted int8 or int4`);
  parsePolicy(policy);
  const { link, deadlineMs } = launchOptions(options);
  const { config, tokenizer, close } = openModel(options.model);
  close();
  const capacity = Math.min(contextLength ?? Infinity, config.max_position_embeddings);
  const form = quantize ?? ENGINE.form;
  const shape = { form, slots, contextLength: capacity, chunk: ENGINE.chunk, cacheBytes, policy };
  const isHere = thread === "process" && ranks === undefined && launcherSize() === undefined;
  const need = engineNeed(config, {
    ...shape,
    ...rankPlaces(ranks),
    hasTokenizer: tokenizer !== undefined,
    thread: isHere ? "process" : "own",
  });
  announceMemory(need, options);
  return { ...shape, ranks: ranks ?? launcherSize(), link, deadlineMs, onLine: options.onEvent };
}
