/** POST /v1/completions */
import type { FastifyInstance } from "fastify";
import { type AnswerForm, answer } from "../answer.js";
import { choiceRequests } from "../choice-requests.js";
import type { ChoiceEnd, ChoicePiece } from "../choice.js";
import type { PreparedPrompt } from "../echo.js";
import { completionLogprobs } from "../logprobs.js";
import { encodeText, newDocument } from "../model.js";
import { type CompletionBody, completionBody } from "../schemas/completions.js";
import type { Prompt } from "../schemas/prompt.js";
import type { Service } from "../service.js";
import { parseBody } from "../validation.js";

/** As OpenAI has it, where `max_tokens` is not given. */
const USUAL_TOKENS = 16;

export function addCompletions(app: FastifyInstance, service: Service): void {
  const { model, engine } = service;
  app.post("/v1/completions", async (request, reply) => {
    const body = parseBody(completionBody, request.body);
    service.admit(body.model, body.prompt.length * body.n);
    const prompts = body.prompt.map((prompt) => prepare(service, prompt, body));
    const choices = choiceRequests(model, engine, body, {
      prompts,
      promptParam: "prompt",
      maxTokens: body.max_tokens,
      usualTokens: USUAL_TOKENS,
      logprobs: body.logprobs,
      echo: body.echo,
      stops: [],
    });
    return answer(service, { request, reply }, formOf(service, body), {
      choices,
      promptTokens: prompts.reduce((sum, { ids }) => sum + ids.length, 0),
      stream: body.stream,
      includeUsage: body.stream_options?.include_usage === true,
    });
  });
}

function prepare({ model, engine }: Service, prompt: Prompt, body: CompletionBody): PreparedPrompt {
  if (typeof prompt !== "string") return { ids: prompt, added: 0 };
  const { ids, added } = encodeText(model, prompt, {
    addSpecial: body.add_special_tokens,
    mostTokens: engine.contextLength,
    param: "prompt",
  });
  if (ids.length > 0) return { ids, text: prompt, added };
  const document = newDocument(model);
  return { ids: document, text: prompt, added: document.length };
}

function formOf({ model }: Service, body: CompletionBody): AnswerForm {
  const choiceOf = (index: number, { text, tokens }: ChoicePiece, end: Partial<ChoiceEnd>) => ({
    index,
    text,
    logprobs:
      body.logprobs === undefined
        ? null
        : completionLogprobs(tokens, model.vocabulary, body.return_tokens_as_token_ids),
    finish_reason: end.finishReason ?? null,
    stop_reason: end.stopReason ?? null,
  });
  const nothing = { text: "", tokens: [] };
  const object = "text_completion";
  return {
    prefix: "cmpl",
    whole: ({ id, created, model }, choices, usage) => ({
      id,
      object,
      created,
      model,
      choices: choices.map((choice) => choiceOf(choice.index, choice, choice)),
      usage,
    }),
    event: ({ id, created, model }, choices) => ({ id, object, created, model, choices }),
    piece: (index, piece) => choiceOf(index, piece, {}),
    end: (index, end) => ({ ...choiceOf(index, nothing, end), logprobs: null }),
  };
}
