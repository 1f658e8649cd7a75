/** A model on a port. */
import type { Logger } from "pino";
import { EnvironmentError } from "../core/errors.js";
import type { InferenceEngine } from "../infer/engine.js";
import { checkAddress, checkKeys } from "../serve/keys.js";
import { type Limits, limitsOf } from "../serve/limits.js";
import { readServedModel } from "../serve/read-model.js";
import { DEFAULT_ADDRESS, type ServerOptions, createServer } from "../serve/server.js";

export interface ServeOptions {
  /** Run directory (its newest checkpoint), checkpoint or published folder. */
  readonly model: string;
  /** As requests have it; default: the folder's name. */
  readonly name?: string | undefined;
  /** Default: 127.0.0.1; any that others can reach wants keys. */
  readonly host?: string | undefined;
  /** Default: 8000; 0: any that is free. */
  readonly port?: number | undefined;
  readonly ranks?: number | undefined;
  readonly keys?: readonly string[] | undefined;
  readonly limits?: Partial<Limits> | undefined;
  /** Where the log goes; default: nowhere. */
  readonly log?: Logger | undefined;
}

/** An engine, and what it knows of its last step. */
export interface OpenedEngine {
  readonly engine: InferenceEngine;
  /** The page of /debug/timeline; undefined before the first sharded step. */
  readonly timeline?: ServerOptions["timeline"];
}

/** @throws InputError when the model is missing, damaged or not supported, or there is too little memory */
export type OpenEngine = (options: ServeOptions) => Promise<OpenedEngine>;

export interface Serving {
  /** `http://127.0.0.1:8000` */
  readonly address: string;
  readonly name: string;
  /** Fails when the engine has. */
  readonly lost: Promise<never>;
  /** Lets answers end until the deadline, then closes server and engine. */
  drain(deadlineMs: number): Promise<void>;
}

/**
 * Opens a model and answers requests until it is drained.
 * @throws InputError when the model, an option or the address is none; EnvironmentError when the address cannot be had
 */
export async function serve(options: ServeOptions, openEngine: OpenEngine): Promise<Serving> {
  const { host = DEFAULT_ADDRESS.host, port, keys = [], log } = options;
  // Before minutes of loading weights.
  checkKeys(keys);
  checkAddress(host, keys);
  limitsOf(options.limits);
  const model = readServedModel(options.model, options.name);
  const { engine, timeline } = await openEngine(options);
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
    onEngineLost: () => fail(new EnvironmentError("The ranks of the model are lost; start the server again")),
  });
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
