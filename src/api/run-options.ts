import { type Link, parseLink } from "../comm/link.js";
import type { LaunchOptions } from "../launch/options.js";

/** What all functions that run on ranks take. `E`: events beside lines for people. */
export interface RunOptions<E = never> extends Omit<LaunchOptions<E>, "link"> {
  /** Delays messages between threads as this link would: "10gbit,20us", or parsed. Default: as fast as memory. */
  readonly link?: string | Link | undefined;
}

/** The part of the options that says how to launch. @throws InputError when the link is misspelt */
export function launchOptions<E>(options: RunOptions<E>): LaunchOptions<E> {
  const { ranks, link, deadlineMs, signal, onEvent } = options;
  return { ranks, link: typeof link === "string" ? parseLink(link) : link, deadlineMs, signal, onEvent };
}
