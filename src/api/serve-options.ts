/** What a server is told, and what there is of it. */
import type { Logger } from "pino";
import type { Limits } from "../serve/limits.js";
import type { GeneratorOptions } from "./engine-options.js";

/** A model, where it listens, and what it lets requests ask. */
export interface ServeOptions extends GeneratorOptions {
  /** As requests have it; default: the folder's name. */
  readonly name?: string | undefined;
  /** Default: 127.0.0.1; any that others can reach wants keys. */
  readonly host?: string | undefined;
  /** Default: 8000; 0: any that is free. */
  readonly port?: number | undefined;
  /** One of them is asked of every request. Default: none is. */
  readonly keys?: readonly string[] | undefined;
  readonly limits?: Partial<Limits> | undefined;
  /** Where the log goes; default: nowhere. */
  readonly log?: Logger | undefined;
}

/** A server that answers. */
export interface Serving {
  /** `http://127.0.0.1:8000` */
  readonly address: string;
  readonly name: string;
  /** Fails when the engine has. */
  readonly lost: Promise<never>;
  /** Lets answers end until the deadline, then closes server and engine. */
  drain(deadlineMs: number): Promise<void>;
}
