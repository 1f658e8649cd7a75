/** What the server takes, and what it refuses. */
import { type Bound, checkBounds, whole } from "../core/bounds.js";
import type { InferenceEngine } from "../infer/engine.js";
import { ApiError, invalid } from "./errors.js";

/** What a server takes on at once, and how long it waits. */
export interface Limits {
  /** Sequences that may wait for their turn; one request beyond is told to come again (429). */
  readonly maxQueue: number;
  /** Sequences that one request may ask for: its prompts times `n`. */
  readonly maxSequences: number;
  /** Of a request's body. */
  readonly maxBodyBytes: number;
  /** From a request's arrival to the end of its answer; then its sequences are cancelled. */
  readonly requestTimeoutMs: number;
  /** In which a client must have sent all headers, and the whole body. */
  readonly headersTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  /** Of an answer that the client does not read; beyond it the client is given up. */
  readonly maxUnreadBytes: number;
}

export const LIMITS: Limits = {
  maxQueue: 1_024,
  maxSequences: 256,
  maxBodyBytes: 4 << 20,
  requestTimeoutMs: 600_000,
  headersTimeoutMs: 10_000,
  bodyTimeoutMs: 60_000,
  maxUnreadBytes: 8 << 20,
};

/** As long as a timer can be. */
const milliseconds = whole(1, 2 ** 31 - 1);

export const LIMIT_BOUNDS = {
  maxQueue: whole(1, 1e6),
  maxSequences: whole(1, 1e6),
  maxBodyBytes: whole(1_024, 2 ** 28),
  requestTimeoutMs: milliseconds,
  headersTimeoutMs: milliseconds,
  bodyTimeoutMs: milliseconds,
  maxUnreadBytes: whole(1_024, 2 ** 30),
} as const satisfies Readonly<Record<keyof Limits, Bound>>;

/** @throws InputError naming the limit that makes no sense */
export function limitsOf(given: Partial<Limits> = {}): Limits {
  checkBounds("serve", given, LIMIT_BOUNDS);
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...LIMITS, ...Object.fromEntries(known) };
}

/**
 * Refuses what the queue has no room for.
 * @param sequences that the request asks for
 * @param meanSeconds that requests have taken of late
 * @throws ApiError of status 400 when no queue would ever take so many, 429 when this one does not now
 */
export function admit(
  engine: Pick<InferenceEngine, "figures">,
  { maxQueue, maxSequences }: Limits,
  sequences: number,
  meanSeconds: number,
): void {
  const most = Math.min(maxSequences, maxQueue);
  if (sequences > most)
    throw invalid(
      `The request asks for ${sequences} sequences (prompts times n); wanted at most ${most}`,
      "n",
    );
  const { waiting } = engine.figures();
  if (waiting + sequences <= maxQueue) return;
  throw new ApiError(429, `${waiting} sequences wait already; at most ${maxQueue} may; try again later`, {
    code: "queue_full",
    retryAfter: Math.min(60, Math.max(1, Math.ceil(meanSeconds))),
  });
}
