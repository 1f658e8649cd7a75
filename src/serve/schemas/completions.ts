/** The body of POST /v1/completions. */
import { z } from "zod";
import { prompt } from "./prompt.js";
import {
  MOST_LOGPROBS,
  STREAM_REFINEMENT,
  flag,
  refineStream,
  sampling,
  tokenCount,
  unsupported,
  whole,
} from "./sampling.js";

export const completionBody = z
  .strictObject({
    prompt,
    ...sampling,
    max_tokens: tokenCount(0).optional().describe("default: 16, or as many as the context has room for"),
    echo: flag().default(false).describe("the answer begins with the prompt"),
    logprobs: whole(0, MOST_LOGPROBS)
      .optional()
      .describe("log probabilities of the tokens, and of so many likeliest ones beside each"),
    best_of: whole(1, 128).optional().describe("only as many as n"),
    suffix: unsupported("suffix", ""),
    add_special_tokens: flag()
      .default(true)
      .describe("texts get the tokens that they begin with, unless they have them (vLLM)"),
    return_tokens_as_token_ids: flag()
      .default(false)
      .describe("tokens of logprobs are named `token_id:17` (vLLM)"),
  })
  .refine(refineStream, STREAM_REFINEMENT)
  .refine(({ best_of, n }) => best_of === undefined || best_of === n, {
    error: "best_of is not supported beyond n",
    path: ["best_of"],
  });

export type CompletionBody = z.output<typeof completionBody>;
