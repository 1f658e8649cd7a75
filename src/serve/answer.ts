/** An answer to a request for text, whole or in pieces; what the two endpoints write differs only in form. */
import { randomUUID } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { ChoiceEnd, ChoicePiece, ChoiceRequest } from "./choice.js";
import { ApiError, CLIENT_GONE, apiError } from "./errors.js";
import type { GenerationReader } from "./generation.js";
import type { Service } from "./service.js";
import { eventStream } from "./sse.js";
import type { ChoiceToken } from "./choice-token.js";

/** What is the same in every piece of an answer. */
export interface AnswerHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

export interface WholeChoice extends ChoicePiece, ChoiceEnd {
  readonly index: number;
}

/** How an endpoint writes. */
export interface AnswerForm {
  /** Of the answer's id, "cmpl". */
  readonly prefix: string;
  whole(head: AnswerHead, choices: readonly WholeChoice[], usage: Usage): unknown;
  /** Of an event; `choices` is empty in the one with the usage. */
  event(head: AnswerHead, choices: readonly unknown[]): object;
  /** What a choice begins with, before its first piece or its end; undefined: nothing. */
  begin?(index: number): unknown;
  piece(index: number, piece: ChoicePiece): unknown;
  end(index: number, end: ChoiceEnd): unknown;
}

export interface AnswerOptions {
  readonly choices: readonly ChoiceRequest[];
  readonly promptTokens: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** @throws ApiError as long as nothing has been sent */
export async function answer(
  service: Service,
  http: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  form: AnswerForm,
  options: AnswerOptions,
): Promise<unknown> {
  const head: AnswerHead = {
    id: `${form.prefix}-${randomUUID().replaceAll("-", "")}`,
    created: Math.floor(Date.now() / 1e3),
    model: service.model.name,
  };
  const counted = { prompt: options.promptTokens, written: 0 };
  if (!options.stream) {
    const { choices, reader } = collected(options.choices.length, counted);
    await service.generate(http, options.choices, reader);
    return form.whole(head, choices(), usageOf(counted));
  }
  await streamed(service, http, form, { ...options, head, counted });
  return undefined;
}

interface Counted {
  readonly prompt: number;
  written: number;
}

const usageOf = ({ prompt, written }: Counted): Usage => ({
  prompt_tokens: prompt,
  completion_tokens: written,
  total_tokens: prompt + written,
});

function collected(count: number, counted: Counted) {
  const texts = new Array<string>(count).fill("");
  const tokens = Array.from({ length: count }, (): ChoiceToken[] => []);
  const ends: ChoiceEnd[] = [];
  const reader: GenerationReader = {
    piece(choice, piece) {
      texts[choice] += piece.text;
      for (const token of piece.tokens) tokens[choice].push(token);
    },
    end(choice, end, newTokens) {
      ends[choice] = end;
      counted.written += newTokens;
    },
  };
  const choices = (): WholeChoice[] =>
    texts.map((text, index) => ({ index, text, tokens: tokens[index], ...ends[index] }));
  return { choices, reader };
}

async function streamed(
  service: Service,
  http: { readonly request: FastifyRequest; readonly reply: FastifyReply },
  form: AnswerForm,
  of: AnswerOptions & { readonly head: AnswerHead; readonly counted: Counted },
): Promise<void> {
  const { head, counted, includeUsage } = of;
  const { reply } = http;
  const events = eventStream(reply, service.limits.maxUnreadBytes, () => reply.raw.destroy());
  // Once asked for, it is a key of every event, as OpenAI has it.
  const nothing = includeUsage ? { usage: null } : {};
  const started = new Set<number>();
  const write = (choice: unknown): void => events.send({ ...form.event(head, [choice]), ...nothing });
  const send = (index: number, choice: unknown): void => {
    if (form.begin !== undefined && !started.has(index)) write(form.begin(index));
    started.add(index);
    write(choice);
  };
  try {
    await service.generate(http, of.choices, {
      piece: (index, piece) => send(index, form.piece(index, piece)),
      end(index, end, newTokens) {
        counted.written += newTokens;
        send(index, form.end(index, end));
      },
    });
  } catch (error) {
    if (!events.isOpen) throw error;
    const problem = error instanceof ApiError ? error : apiError(error);
    if (problem.status !== CLIENT_GONE) events.fail(problem);
    return;
  }
  if (includeUsage) events.send({ ...form.event(head, []), usage: usageOf(counted) });
  events.done();
}
