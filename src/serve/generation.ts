/** The sequences of one request: submitted together, ended together. */
import { InputError } from "../core/errors.js";
import type { InferenceEngine, SubmittedSequence } from "../infer/engine.js";
import { type ChoiceEnd, type ChoicePiece, type ChoiceRequest, readChoice } from "./choice.js";
import { type ApiError, apiError, engineLost } from "./errors.js";

export interface GenerationReader {
  piece(choice: number, piece: ChoicePiece): void;
  /** @param newTokens that the choice has, those that ended it included */
  end(choice: number, end: ChoiceEnd, newTokens: number): void;
}

/** Hears of every token, for figures. */
export interface GenerationObserver {
  token(choice: number): void;
  end(choice: number, reason: ChoiceEnd["finishReason"]): void;
}

export interface Generation {
  /**
   * Resolves when every choice has ended.
   * @throws ApiError when the request was cancelled or the engine failed
   */
  readonly done: Promise<void>;
  readonly newTokens: number;
  /** Ends all of it; `done` fails with the error at once. Idempotent, and nothing after the end. */
  cancel(error: ApiError): void;
}

/** @throws ApiError when the engine refuses a sequence; then none of the request is left in it */
export function startGeneration(
  engine: Pick<InferenceEngine, "submit">,
  choices: readonly ChoiceRequest[],
  reader: GenerationReader,
  observer: GenerationObserver,
): Generation {
  const submitted: SubmittedSequence[] = [];
  let left = choices.length;
  let newTokens = 0;
  let isOver = false;
  const { promise, resolve, reject } = withResolvers();
  const cancelAll = (): void => {
    for (const sequence of submitted) sequence.cancel();
  };
  const cancel = (error: ApiError): void => {
    if (isOver) return;
    isOver = true;
    reject(error);
    cancelAll();
  };
  /** The engine must not suffer from what a reader throws. */
  const guarded = <T>(act: () => T): T | undefined => {
    if (isOver) return undefined;
    try {
      return act();
    } catch (error) {
      cancel(apiError(error));
      return undefined;
    }
  };
  const listenerOf = (request: ChoiceRequest, choice: number) => {
    let own = 0;
    const inner = readChoice(request, {
      token() {
        own++;
        newTokens++;
        observer.token(choice);
      },
      piece: (piece) => reader.piece(choice, piece),
      end(end) {
        observer.end(choice, end.finishReason);
        reader.end(choice, end, own);
        if (--left > 0 || isOver) return;
        isOver = true;
        resolve();
      },
      failed: cancel,
    });
    return {
      promptLogprobs: (tokens: Parameters<NonNullable<typeof inner.promptLogprobs>>[0]) =>
        void guarded(() => inner.promptLogprobs?.(tokens)),
      token: (token: Parameters<typeof inner.token>[0]) => {
        const answer = guarded(() => inner.token(token));
        return isOver ? ("stop" as const) : answer;
      },
      end: (reason: Parameters<typeof inner.end>[0]) => void guarded(() => inner.end(reason)),
      failed: (error: Error) => void guarded(() => inner.failed(error)),
    };
  };
  try {
    choices.forEach((request, choice) => {
      const { prompt, sampling } = request;
      submitted.push(engine.submit({ prompt, sampling }, listenerOf(request, choice)));
    });
  } catch (error) {
    isOver = true;
    cancelAll();
    // Whatever else an engine throws: it takes no more.
    throw error instanceof InputError ? apiError(error) : engineLost(error);
  }
  return {
    done: promise,
    get newTokens() {
      return newTokens;
    },
    cancel,
  };
}

function withResolvers() {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((fulfil, fail) => {
    resolve = fulfil;
    reject = fail;
  });
  return { promise, resolve, reject };
}
