/** Keys that requests for text share: OpenAI's, and those that vLLM adds. */
import { z } from "zod";

const number = (from: number, to: number) =>
  z
    .number({ error: `wanted a number from ${from} to ${to}` })
    .min(from, { error: `wanted a number from ${from} to ${to}` })
    .max(to, { error: `wanted a number from ${from} to ${to}` });

export const whole = (from: number, to: number) => {
  const error = `wanted a whole number from ${from} to ${to}`;
  return z.int({ error }).min(from, { error }).max(to, { error });
};

export const flag = () => z.boolean({ error: "wanted true or false" });

/** Far beyond any context. */
const MANY = 2 ** 24;
export const tokenCount = (from: number) => whole(from, MANY);
export const tokenId = () => whole(0, MANY);

export const MOST_LOGPROBS = 20;

const stopText = z
  .string({ error: "wanted a text" })
  .min(1, { error: "wanted a text that is not empty" })
  .max(1_024, { error: "wanted a text of at most 1024 characters" })
  .refine((text) => text.isWellFormed(), { error: "wanted a text without half of a surrogate pair" });
const stops = z.array(stopText).max(16, { error: "wanted at most 16 texts" });

const bias = z
  .record(z.string().regex(/^\d{1,8}$/), number(-100, 100), {
    error: ({ code }) =>
      code === "invalid_key" ? "wanted token ids as keys" : "wanted an object of token ids and numbers",
  })
  .refine((value) => Object.keys(value).length <= 1024, { error: "wanted at most 1024 tokens" })
  .meta({ maxProperties: 1024 });

/** Keys that change nothing here, whatever OpenAI's servers do with them. */
const ignored = {
  user: z.string().optional().describe("changes nothing"),
  metadata: z.record(z.string(), z.string()).optional().describe("changes nothing"),
  store: z.boolean().optional().describe("changes nothing"),
  service_tier: z.string().optional().describe("changes nothing"),
  safety_identifier: z.string().optional().describe("changes nothing"),
  prompt_cache_key: z.string().optional().describe("changes nothing: prefixes are shared anyway"),
};

export const modelName = z
  .string({ error: "wanted the model's name" })
  .optional()
  .describe("as /v1/models has it; default: the one that is served");

const SHARE = "wanted a number above 0, to 1";

export const sampling = {
  model: modelName,
  n: whole(1, 128).default(1).describe("choices for each prompt; they differ, with a seed too"),
  temperature: number(0, 100).default(1).describe("0: always the likeliest token"),
  top_p: z
    .number({ error: SHARE })
    .gt(0, { error: SHARE })
    .max(1, { error: SHARE })
    .default(1)
    .describe("only the likeliest tokens that together have this probability"),
  top_k: whole(-1, MANY).default(0).describe("only the k likeliest tokens; 0 or -1: all (vLLM)"),
  min_p: number(0, 1).default(0).describe("only tokens at least so likely, relative to the likeliest (vLLM)"),
  repetition_penalty: number(0.01, 100).default(1).describe("of tokens in the prompt or the answer (vLLM)"),
  presence_penalty: number(-2, 2).default(0),
  frequency_penalty: number(-2, 2).default(0),
  logit_bias: bias.optional().describe("added to the logits of tokens, by id"),
  seed: whole(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
    .optional()
    .describe("the same seed gives the same answer"),
  stop: z
    .union([stopText, stops], { error: "wanted a text, or a list of texts" })
    .optional()
    .describe("texts that end the answer; they are no part of it"),
  stop_token_ids: z
    .array(tokenId(), { error: "wanted a list of token ids" })
    .max(1024, { error: "wanted at most 1024 token ids" })
    .optional()
    .describe("tokens that end the answer, beside the model's own (vLLM)"),
  ignore_eos: flag().default(false).describe("the model's own end tokens do not end the answer (vLLM)"),
  skip_special_tokens: flag().default(true).describe("special tokens have no text (vLLM)"),
  stream: flag().default(false),
  stream_options: z
    .strictObject(
      { include_usage: flag().nullish(), include_obfuscation: z.literal(false).nullish() },
      { error: (issue) => (issue.code === "invalid_type" ? "wanted an object" : undefined) },
    )
    .optional(),
  ...ignored,
};

export type SamplingKeys = z.output<z.ZodObject<typeof sampling>>;

/** A key of OpenAI's that is not supported: only values that ask for nothing are taken. */
export const unsupported = (name: string, ...harmless: readonly unknown[]) =>
  z
    .unknown()
    .refine(
      (value) =>
        value === undefined || harmless.some((other) => JSON.stringify(other) === JSON.stringify(value)),
      { error: `${name} is not supported` },
    )
    .optional()
    .meta({ enum: [...harmless, null], description: "not supported: refused unless it asks for nothing" });

/** `stream_options` says something only of streams. */
export const refineStream = <T extends { stream: boolean; stream_options?: object | undefined }>(
  body: T,
): boolean => body.stream || body.stream_options === undefined;
export const STREAM_REFINEMENT = {
  error: "stream_options is only allowed when stream is true",
  path: ["stream_options"],
};
