/** POST /v1/chat/completions */
import type { FastifyInstance } from "fastify";
import { type AnswerForm, answer } from "../answer.js";
import { choiceRequests } from "../choice-requests.js";
import { chatLogprobs } from "../logprobs.js";
import { type ServedModel, encodeText } from "../model.js";
import { type ChatBody, type Conversation, chatBody } from "../schemas/chat.js";
import type { Service } from "../service.js";
import { parseBody } from "../validation.js";
import type { ChoiceToken } from "../choice-token.js";

export function addChat(app: FastifyInstance, service: Service): void {
  const { model, engine } = service;
  app.post("/v1/chat/completions", async (request, reply) => {
    const body = parseBody(chatBody, request.body);
    service.admit(body.model, body.n);
    const ids = conversationIds(model, body, engine.contextLength);
    const choices = choiceRequests(model, engine, body, {
      prompts: [{ ids, added: 0 }],
      promptParam: "messages",
      maxTokens: body.max_completion_tokens ?? body.max_tokens,
      usualTokens: engine.contextLength,
      logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
      echo: false,
      stops: model.chatTemplate.stops,
    });
    return answer(service, { request, reply }, formOf(model, body), {
      choices,
      promptTokens: ids.length,
      stream: body.stream,
      includeUsage: body.stream_options?.include_usage === true,
    });
  });
}

/**
 * A conversation as its template writes it. A model's own template writes what a text begins with, too; where it is to be added
 * nevertheless, it is not put there twice.
 * @throws ApiError of status 400 when the template refuses the messages, or they are too long
 */
export function conversationIds(model: ServedModel, body: Conversation, mostTokens: number): number[] {
  const text = model.chatTemplate.render(body.messages, {
    add_generation_prompt: body.add_generation_prompt ?? !body.continue_final_message,
    continue_final_message: body.continue_final_message,
    variables: body.chat_template_kwargs ?? {},
  });
  const addSpecial = body.add_special_tokens ?? model.chatTemplate.isPlain;
  return encodeText(model, text, { addSpecial, mostTokens, param: "messages" }).ids;
}

function formOf({ vocabulary }: ServedModel, body: ChatBody): AnswerForm {
  const logprobsOf = (tokens: readonly ChoiceToken[]) =>
    body.logprobs ? chatLogprobs(tokens, vocabulary) : null;
  const role = "assistant";
  return {
    prefix: "chatcmpl",
    whole: ({ id, created, model }, choices, usage) => ({
      id,
      object: "chat.completion",
      created,
      model,
      choices: choices.map(({ index, text, tokens, finishReason, stopReason }) => ({
        index,
        message: { role, content: text, refusal: null },
        logprobs: logprobsOf(tokens),
        finish_reason: finishReason,
        stop_reason: stopReason,
      })),
      usage,
    }),
    event: ({ id, created, model }, choices) => ({
      id,
      object: "chat.completion.chunk",
      created,
      model,
      choices,
    }),
    // As OpenAI does: its client counts the log probabilities of a choice's first chunk twice.
    begin: (index) => ({ index, delta: { role, content: "" }, logprobs: null, finish_reason: null }),
    piece: (index, { text, tokens }) => ({
      index,
      delta: { content: text },
      logprobs: logprobsOf(tokens),
      finish_reason: null,
    }),
    end: (index, { finishReason, stopReason }) => ({
      index,
      delta: {},
      logprobs: null,
      finish_reason: finishReason,
      stop_reason: stopReason,
    }),
  };
}
