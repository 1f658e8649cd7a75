/** A model on a port. */
import type { Logger } from "pino";
import { launcherSize } from "../comm/mpi/library.js";
import { EnvironmentError } from "../core/errors.js";
import type { InferenceEngine } from "../infer/engine.js";
import { engineNeed } from "../infer/memory-need.js";
import { ENGINE, type EngineOptions, openEngine } from "../infer/open-engine.js";
import type { QuantisedForm } from "../kernel/quantise.js";
import type { LineEvent } from "../launch/job.js";
import { timelineHtml } from "../timeline/timeline-html.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { openModel } from "../run/open-model.js";
import { DEFAULT_ADDRESS, checkAddress, checkKeys } from "../serve/keys.js";
import { type Limits, limitsOf } from "../serve/limits.js";
import { readServedModel } from "../serve/read-model.js";
import { type ServerOptions, createServer } from "../serve/server.js";
import { announceMemory, rankPlaces } from "./memory.js";

export interface ServeOptions
  extends
    MemoryOptions,
    Pick<EngineOptions, "ranks" | "policy" | "slots" | "contextLength" | "cacheBytes" | "onStep"> {
  /** Run directory (its newest checkpoint), checkpoint or published folder. */
  readonly model: string;
  /** As requests have it; default: the folder's name. */
  readonly name?: string | undefined;
  /** Default: 127.0.0.1; any that others can reach wants keys. */
  readonly host?: string | undefined;
  /** Default: 8000; 0: any that is free. */
  readonly port?: number | undefined;
  /** Holds the weights of matrix products in 8 or 4 bits. Default: as f32. */
  readonly quantize?: QuantisedForm | undefined;
  /** Hears what memory it will take. */
  readonly onEvent?: ((event: LineEvent) => void) | undefined;
  readonly keys?: readonly string[] | undefined;
  readonly limits?: Partial<Limits> | undefined;
  /** Where the log goes; default: nowhere. */
  readonly log?: Logger | undefined;
}

/** An engine, and what it knows of its last step. */
export interface OpenedEngine {
  readonly engine: InferenceEngine;
  /** The page of /debug/timeline; undefined before the first step. */
  readonly timeline?: ServerOptions["timeline"];
  /** Rejects when a rank is lost. */
  readonly ended?: Promise<void> | undefined;
}

/**
 * @returns undefined in processes of an MPI launcher other than rank 0's, once all has ended
 * @throws InputError when the model is missing, damaged or not supported, or there is too little memory
 */
export type OpenServedEngine = (options: ServeOptions) => Promise<OpenedEngine | undefined>;

export interface Serving {
  /** `http://127.0.0.1:8000` */
  readonly address: string;
  readonly name: string;
  /** Fails when the engine has. */
  readonly lost: Promise<never>;
  /** Lets answers end until the deadline, then closes server and engine. */
  drain(deadlineMs: number): Promise<void>;
}

/** The model itself, computed on ranks: never on the thread that answers. */
export const openServedEngine: OpenServedEngine = async (options) => {
  const { model, cacheBytes, quantize: form = ENGINE.form, slots = ENGINE.slots } = options;
  const { ranks = launcherSize() ?? 1, policy = ENGINE.policy } = options;
  const { config, tokenizer, close } = openModel(model);
  close();
  const contextLength = Math.min(options.contextLength ?? Infinity, config.max_position_embeddings);
  const shape = { form, slots, contextLength, cacheBytes };
  const need = {
    ...shape,
    policy,
    hasTokenizer: tokenizer !== undefined,
    chunk: ENGINE.chunk,
    ...rankPlaces(ranks),
  };
  announceMemory(engineNeed(config, need), options);
  const { onEvent: onLine, onStep } = options;
  const opened = await openEngine(model, { ranks, policy, ...shape, onLine, onStep });
  if (opened === undefined) return undefined;
  const { engine, ended } = opened;
  return {
    engine,
    ended,
    async timeline() {
      const step = await opened.timeline();
      return step && timelineHtml([{ title: `${config.arch}, step ${engine.figures().steps}`, ...step }]);
    },
  };
};

/**
 * Opens a model and answers requests until it is drained.
 * @returns undefined in processes of an MPI launcher other than rank 0's, once all has ended
 * @throws InputError when the model, an option or the address is none; EnvironmentError when the address cannot be had
 */
export async function serve(
  options: ServeOptions,
  open: OpenServedEngine = openServedEngine,
): Promise<Serving | undefined> {
  const { host = DEFAULT_ADDRESS.host, port, keys = [], log } = options;
  // Before minutes of loading weights.
  checkKeys(keys);
  checkAddress(host, keys);
  limitsOf(options.limits);
  const model = readServedModel(options.model, options.name);
  const opened = await open(options);
  if (opened === undefined) return undefined;
  const { engine, timeline, ended } = opened;
  let fail: (error: Error) => void = () => undefined;
  const lost = new Promise<never>((_, reject) => (fail = reject));
  lost.catch(() => undefined);
  const server = createServer({
    engine,
    model,
    keys,
    limits: options.limits,
    log,
    timeline,
    onEngineLost: (cause) => fail(ranksLost(cause)),
  });
  // Nobody may be asking anything when it happens.
  ended?.catch((error: unknown) => fail(ranksLost(error)));
  try {
    const address = await server.listen({ host, port });
    return {
      address,
      name: model.name,
      lost,
      async drain(deadlineMs) {
        try {
          await server.drain(deadlineMs);
        } finally {
          await engine.close();
        }
      },
    };
  } catch (error) {
    await server.close();
    await engine.close();
    throw error;
  }
}

function ranksLost(cause: unknown): EnvironmentError {
  const why = cause instanceof Error ? ` (${cause.message})` : "";
  return new EnvironmentError(`The ranks of the model are lost${why}; start the server again`);
}
