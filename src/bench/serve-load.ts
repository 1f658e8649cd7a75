/** Clients that stream completions of a server, as many at once as are wanted: what they wait for, and whether each hears what it would alone. */
import { setTimeout as sleep } from "node:timers/promises";
import { EnvironmentError } from "../core/errors.js";
import { philox } from "../core/rng.js";
import { type StreamedAnswer, streamCompletion } from "./streamed-completion.js";

export interface LoadOptions {
  /** `http://127.0.0.1:8000` */
  readonly address: string;
  readonly key?: string | undefined;
  readonly clients: number;
  /** No request begins later; those under way are read to their end. */
  readonly durationMs: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  /** What each request has been answered alone (`askAlone`), to compare streams with. */
  readonly alone?: readonly StreamedAnswer[] | undefined;
}

export interface LoadResult {
  readonly clients: number;
  readonly seconds: number;
  /** Answered in full. */
  readonly requests: number;
  readonly newTokens: number;
  readonly tokensPerSecond: number;
  /** From when a request is sent to its first event, and between events. */
  readonly firstTokenMs: readonly number[];
  readonly interTokenMs: readonly number[];
  /** Refused with 429: the client comes again. */
  readonly refused: number;
  /** Anything else that is no answer, by status; "stream": after the first event; "connection": none. */
  readonly errors: Readonly<Record<string, number>>;
  /** Streams that are not what the same request gives alone; undefined where that was not asked. */
  readonly unlike?: number | undefined;
}

/** Requests that differ; clients ask them in turn. */
export const DISTINCT_REQUESTS = 32;
/** Single bytes, in vocabularies made of bytes; all have so many. */
const TOKENS = 256;
/** A client that is refused comes again after this, whatever it is told: there are always as many clients. */
const AGAIN_MS = 250;

type Sizes = Pick<LoadOptions, "promptTokens" | "newTokens">;

function requestBody(index: number, { promptTokens, newTokens }: Sizes): object {
  const random = philox(index, "prompt");
  return {
    prompt: Array.from({ length: promptTokens }, (_, at) => random.u32(at) % TOKENS),
    max_tokens: newTokens,
    ignore_eos: true,
    temperature: 1,
    seed: index,
    stream: true,
    stream_options: { include_usage: true },
  };
}

/**
 * Each request on its own, one after another.
 * @throws EnvironmentError when one is not answered
 */
export async function askAlone(
  options: Pick<LoadOptions, "address" | "key"> & Sizes,
): Promise<StreamedAnswer[]> {
  const answers: StreamedAnswer[] = [];
  for (let index = 0; index < DISTINCT_REQUESTS; index++) {
    const said = await streamCompletion(options, requestBody(index, options));
    if (said.answer === undefined)
      throw new EnvironmentError(
        `${options.address} answers a request with ${said.failure}${said.message === undefined ? "" : ` (${said.message})`}; wanted a completion`,
      );
    answers.push(said.answer);
  }
  return answers;
}

export async function loadServer(options: LoadOptions): Promise<LoadResult> {
  const { clients, durationMs, alone } = options;
  const startMs = performance.now();
  const untilMs = startMs + durationMs;
  const firstTokenMs: number[] = [];
  const interTokenMs: number[] = [];
  const errors: Record<string, number> = {};
  let [asked, requests, newTokens, refused, unlike] = [0, 0, 0, 0, 0];

  async function client(): Promise<void> {
    while (performance.now() < untilMs) {
      const index = asked++ % DISTINCT_REQUESTS;
      const { answer, failure, eventsMs } = await streamCompletion(options, requestBody(index, options));
      eventsMs.forEach((ms, i) => (i === 0 ? firstTokenMs : interTokenMs).push(ms));
      if (answer !== undefined) {
        requests++;
        newTokens += answer.tokens;
        if (alone !== undefined && !isAlike(answer, alone[index])) unlike++;
        continue;
      }
      if (failure === "429") refused++;
      else errors[failure] = (errors[failure] ?? 0) + 1;
      await sleep(AGAIN_MS);
    }
  }

  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - startMs) / 1e3;
  return {
    clients,
    seconds,
    requests,
    newTokens,
    tokensPerSecond: newTokens / seconds,
    firstTokenMs,
    interTokenMs,
    refused,
    errors,
    unlike: alone === undefined ? undefined : unlike,
  };
}

function isAlike(a: StreamedAnswer, b: StreamedAnswer): boolean {
  return a.text === b.text && a.tokens === b.tokens && a.finishReason === b.finishReason;
}
