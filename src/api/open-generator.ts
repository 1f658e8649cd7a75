/** A model opened to write with. */
import { launcherSize } from "../comm/mpi/library.js";
import { BOUNDS, checkBounds } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { type Generator, openGenerator as openOn } from "../infer/generate.js";
import { engineNeed } from "../infer/memory-need.js";
import { ENGINE } from "../infer/open-engine.js";
import { QUANTISED_FORMS, type QuantisedForm } from "../kernel/quantise.js";
import type { LineEvent } from "../launch/job.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { openModel } from "../run/open-model.js";
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
 * Opens a model to write with; closed when it is not needed any more.
 * @returns undefined in processes of an MPI launcher other than rank 0's, once all has ended
 * @throws InputError when the model is missing, damaged or not supported, or there is too little memory
 */
export async function openGenerator(options: GeneratorOptions): Promise<Generator | undefined> {
  const { model, ranks, policy = ENGINE.policy, quantize, slots = ENGINE.slots, cacheBytes } = options;
  const { contextLength } = options;
  checkBounds(
    "generate",
    { slots, cacheBytes, contextLength },
    { slots: BOUNDS.slots, cacheBytes: BOUNDS.cacheBytes, contextLength: { whole: true, from: 2 } },
  );
  if (quantize !== undefined && !QUANTISED_FORMS.includes(quantize))
    throw new InputError(`generate: quantize is ${shown(quantize)}, wanted int8 or int4`);
  const { link, deadlineMs } = launchOptions(options);
  const { config, tokenizer, close } = openModel(model);
  close();
  const form = quantize ?? ENGINE.form;
  const capacity = Math.min(contextLength ?? Infinity, config.max_position_embeddings);
  const shape = { form, slots, contextLength: capacity, chunk: ENGINE.chunk, cacheBytes, policy };
  const need = engineNeed(config, {
    ...shape,
    ...rankPlaces(ranks),
    hasTokenizer: tokenizer !== undefined,
    thread: ranks === undefined && launcherSize() === undefined ? ("process" as const) : ("own" as const),
  });
  announceMemory(need, options);
  return openOn(model, {
    ...shape,
    ranks: ranks ?? launcherSize(),
    link,
    deadlineMs,
    onLine: options.onEvent,
  });
}
