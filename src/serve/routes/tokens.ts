/** POST /tokenize and /detokenize, as vLLM has them. */
import { setImmediate } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import type { Tokenizer } from "../../data/tokenizer.js";
import { invalid } from "../errors.js";
import { tokenizerOf } from "../model.js";
import { detokenizeBody, tokenizeConversation, tokenizeText } from "../schemas/tokens.js";
import { type Service, checkModel } from "../service.js";
import { parseBody } from "../validation.js";
import { conversationIds } from "./chat.js";

export function addTokens(app: FastifyInstance, { model, engine }: Service): void {
  app.post("/tokenize", async (request) => {
    const { body: given } = request;
    const isChat = typeof given === "object" && given !== null && Object.hasOwn(given, "messages");
    const body = isChat
      ? parseBody(tokenizeConversation, request.body)
      : parseBody(tokenizeText, request.body);
    checkModel(model, body.model);
    const tokens =
      "messages" in body
        ? conversationIds(model, body, Infinity)
        : await encodeLong(tokenizerOf(model, "prompt"), body.prompt, body.add_special_tokens);
    return {
      count: tokens.length,
      max_model_len: engine.contextLength,
      tokens,
      token_strs: body.return_token_strs ? tokens.map((id) => model.vocabulary.textOf(id)) : null,
    };
  });

  app.post("/detokenize", (request) => {
    const body = parseBody(detokenizeBody, request.body);
    checkModel(model, body.model);
    const { vocabSize } = engine;
    const unknown = body.tokens.find((id) => id >= vocabSize);
    if (unknown !== undefined)
      throw invalid(
        `tokens has token ${unknown}; the model's tokens are 0 to ${vocabSize - 1}`,
        "tokens",
        "unknown_token",
      );
    return Promise.resolve({ prompt: tokenizerOf(model, "tokens").decode(body.tokens) });
  });
}

/** A text of any length; others have their turn in between. */
async function encodeLong(tokenizer: Tokenizer, text: string, addSpecial: boolean): Promise<number[]> {
  const ids: number[] = [];
  for (const piece of tokenizer.encodePieces(text)) {
    for (let i = 0; i < piece.length; i++) ids.push(piece[i]);
    await setImmediate();
  }
  const { beginning } = tokenizer;
  return addSpecial && !beginning.every((id, i) => ids[i] === id) ? [...beginning, ...ids] : ids;
}
