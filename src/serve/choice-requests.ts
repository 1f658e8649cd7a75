/** The sequences that a request's keys ask for. */
import { randomInt } from "node:crypto";
import { philox } from "../core/rng.js";
import type { InferenceEngine } from "../infer/engine.js";
import type { SamplingParameters } from "../infer/sampling/sampling-parameters.js";
import type { ChoiceRequest } from "./choice.js";
import { type PreparedPrompt, echoOf } from "./echo.js";
import { contextExceeded, invalid } from "./errors.js";
import type { ServedModel } from "./model.js";
import { tokenizerOf } from "./model.js";
import type { SamplingKeys } from "./schemas/sampling.js";

export interface Wanted {
  readonly prompts: readonly PreparedPrompt[];
  /** The key that says how many new tokens, for messages. */
  readonly promptParam: string;
  /** New tokens at most; undefined: `usualTokens`, as far as the context has room. */
  readonly maxTokens: number | undefined;
  readonly usualTokens: number;
  readonly logprobs: number | undefined;
  readonly echo: boolean;
  /** Stop strings beside the request's own. */
  readonly stops: readonly string[];
}

/**
 * For each prompt in turn its `n` choices.
 * @throws ApiError of status 400 when the context is too short, or a token is unknown
 */
export function choiceRequests(
  model: ServedModel,
  { contextLength, vocabSize }: Pick<InferenceEngine, "contextLength" | "vocabSize">,
  keys: SamplingKeys,
  wanted: Wanted,
): ChoiceRequest[] {
  const { logprobs, echo, promptParam } = wanted;
  const stops = [...(keys.stop === undefined ? [] : [keys.stop].flat()), ...wanted.stops];
  if (keys.stop !== undefined && keys.stop.length > 0) tokenizerOf(model, "stop");
  const namedStops = new Set(keys.stop_token_ids ?? []);
  const ends = keys.ignore_eos ? [] : model.endTokens;
  const unknownStop = [...namedStops].find((id) => id >= vocabSize);
  if (unknownStop !== undefined) throw unknownToken(unknownStop, vocabSize, "stop_token_ids");
  const shared = {
    temperature: keys.temperature,
    topK: Math.max(0, keys.top_k),
    topP: keys.top_p,
    minP: keys.min_p,
    repetitionPenalty: keys.repetition_penalty,
    presencePenalty: keys.presence_penalty,
    frequencyPenalty: keys.frequency_penalty,
    logitBias: biases(keys.logit_bias, vocabSize),
    stopTokens: [...new Set([...ends, ...namedStops])],
    logprobs,
    promptLogprobs: echo ? logprobs : undefined,
  };
  const written = keys.skip_special_tokens ? withoutSpecial(model) : model.tokenizer;
  return wanted.prompts.flatMap((prompt) => {
    const { ids } = prompt;
    const unknown = ids.find((id) => id >= vocabSize);
    if (unknown !== undefined) throw unknownToken(unknown, vocabSize, promptParam);
    const maxNewTokens = newTokens(contextLength, ids.length, wanted);
    // The text of a prompt is whole, special tokens included.
    const decoder = prompt.text === undefined ? written : model.tokenizer;
    const echoed = echo ? echoOf(prompt, decoder) : undefined;
    return Array.from({ length: keys.n }, (_, i): ChoiceRequest => {
      const seed = keys.seed === undefined ? randomInt(2 ** 47) : choiceSeed(keys.seed, i);
      const sampling: SamplingParameters = { ...shared, maxNewTokens, seed };
      return { prompt: ids, sampling, decoder: written, stops, namedStops, echo: echoed };
    });
  });
}

function newTokens(
  contextLength: number,
  promptTokens: number,
  { maxTokens, usualTokens, promptParam }: Wanted,
): number {
  const room = contextLength - promptTokens;
  if (room < (maxTokens === 0 ? 0 : 1))
    throw contextExceeded(
      contextLength,
      `a prompt of ${promptTokens}${room === 0 ? ", with no room for a new one" : ""}`,
      promptParam,
    );
  if (maxTokens === undefined) return Math.min(usualTokens, room);
  if (maxTokens <= room) return maxTokens;
  throw contextExceeded(
    contextLength,
    `${promptTokens} in the prompt and ${maxTokens} to be written`,
    promptParam,
  );
}

const unknownToken = (id: number, vocabSize: number, param: string) =>
  invalid(`${param} has token ${id}; the model's tokens are 0 to ${vocabSize - 1}`, param, "unknown_token");

function biases(
  given: Readonly<Record<string, number>> | undefined,
  vocabSize: number,
): readonly (readonly [number, number])[] {
  return Object.entries(given ?? {}).map(([key, bias]) => {
    if (Number(key) >= vocabSize) throw unknownToken(Number(key), vocabSize, "logit_bias");
    return [Number(key), bias] as const;
  });
}

/** A choice's seed is a function of the request's and of which choice it is; that of the first is the request's own. */
export function choiceSeed(seed: number, choice: number): number {
  const positive = seed < 0 ? seed + Number.MAX_SAFE_INTEGER + 1 : seed;
  if (choice === 0) return positive;
  const random = philox(positive, "choice");
  return (random.u32(2 * choice) >>> 11) * 2 ** 32 + random.u32(2 * choice + 1);
}

/** Special tokens have no text. */
function withoutSpecial({ tokenizer, vocabulary: { special } }: ServedModel) {
  if (tokenizer === undefined || special.size === 0) return tokenizer;
  return {
    decode(ids: Iterable<number>) {
      return tokenizer.decode([...ids].filter((id) => !special.has(id)));
    },
    isByte: (id: number) => tokenizer.isByte(id),
  };
}
