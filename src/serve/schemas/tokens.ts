/** The bodies of POST /tokenize and POST /detokenize, as vLLM has them. */
import { z } from "zod";
import { CONVERSATION_REFINEMENT, conversation, refineConversation } from "./chat.js";
import { tokenIds } from "./prompt.js";
import { flag, modelName } from "./sampling.js";

export const tokenizeText = z.strictObject({
  model: modelName,
  prompt: z.string({ error: "wanted a text" }),
  add_special_tokens: flag().default(true).describe("the tokens that a text begins with are put before it"),
  return_token_strs: flag().default(false).describe("the texts of the tokens, too"),
});

export const tokenizeConversation = z
  .strictObject({
    model: modelName,
    ...conversation,
    return_token_strs: flag().default(false).describe("the texts of the tokens, too"),
  })
  .refine(refineConversation, CONVERSATION_REFINEMENT);

export const detokenizeBody = z.strictObject({ model: modelName, tokens: tokenIds });
