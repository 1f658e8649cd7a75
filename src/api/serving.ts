/** A model on a port: the modules of a server, and the engine behind it. */
import { EnvironmentError } from "../core/errors.js";
import type { InferenceEngine } from "../infer/engine.js";
import { type EngineOptions, openEngine } from "../infer/open-engine.js";
import { timelineHtml } from "../timeline/timeline-html.js";
import { DEFAULT_ADDRESS, checkAddress, checkKeys } from "../serve/keys.js";
import { limitsOf } from "../serve/limits.js";
import { readServedModel } from "../serve/read-model.js";
import { type ServerOptions, createServer } from "../serve/server.js";
import { engineOptions } from "./engine-options.js";
import type { ServeOptions, Serving } from "./serve-options.js";

/** What the server itself may be told beside. */
export interface ServingOptions extends ServeOptions, Pick<EngineOptions, "onStep"> {}

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
export type OpenServedEngine = (options: ServingOptions) => Promise<OpenedEngine | undefined>;

/** The model itself, computed on ranks: never on the thread that answers. */
export const openServedEngine: OpenServedEngine = async (options) => {
  const given = engineOptions("serve", options, "own");
  const { ranks = 1 } = given;
  const opened = await openEngine(options.model, { ...given, ranks, onStep: options.onStep });
  if (opened === undefined) return undefined;
  const { engine, ended } = opened;
  return {
    engine,
    ended,
    async timeline() {
      const step = await opened.timeline();
      return (
        step && timelineHtml([{ title: `${opened.config.arch}, step ${engine.figures().steps}`, ...step }])
      );
    },
  };
};

/** `serve`, with whatever computes. */
export async function startServing(
  options: ServingOptions,
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
