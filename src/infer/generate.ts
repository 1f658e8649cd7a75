/** Writes one text with a model. */
import { InputError } from "../core/errors.js";
import { type Tokenizer, encodePrompt } from "../data/tokenizer.js";
import type { ModelConfig } from "../model/config.js";
import type { InferenceEngine, SequenceRequest } from "./engine.js";
import { type EngineOptions, openEngine } from "./open-engine.js";
import type { SamplingOptions, SamplingParameters } from "./sampling-parameters.js";
import { WrittenText } from "./written-text.js";

export interface Generator {
  /** A published folder may have none: then there are only token ids. */
  readonly tokenizer?: Tokenizer | undefined;
  readonly config: ModelConfig;
  /**
   * A text that outgrows the context goes on with its latest half.
   * @param prompt text, or the ids of its tokens
   * @throws InputError when the prompt has a token the model does not know, or it or a stop string is text and there is no
   *   tokenizer; NumericsError when logits are not finite
   */
  generate(prompt: string | readonly number[], options: WritingOptions, live?: Live): Promise<Written>;
  close(): Promise<void>;
}

/** How text is written, and where it ends. */
export interface WritingOptions extends SamplingOptions {
  /** The text ends before the first of them. */
  readonly stop?: readonly string[] | undefined;
}

/** What a caller hears and says while text is written. */
export interface Live {
  /** Each new piece of text; never a part of a character. */
  readonly onText?: ((text: string) => void) | undefined;
  /** Each new token. */
  readonly onToken?: ((id: number) => void) | undefined;
  /** Stops before the next token. */
  readonly signal?: AbortSignal | undefined;
}

/** Text that a model has written. */
export interface Written {
  /** The new text; empty without a tokenizer. */
  readonly text: string;
  /** All new tokens, those of a stop string included. */
  readonly ids: readonly number[];
  readonly newTokens: number;
  readonly stopped: "length" | "end of text" | "stop string" | "aborted";
}

/**
 * Closed when it is not needed any more.
 * @throws InputError when the model is missing, damaged or not supported, or its tokenizer belongs to another
 */
export async function openGenerator(
  path: string,
  options: EngineOptions = {},
): Promise<Generator | undefined> {
  const opened = await openEngine(path, options);
  if (opened === undefined) return undefined;
  const { engine, tokenizer, config, directory, endTokens } = opened;
  return {
    tokenizer,
    config,
    async generate(prompt, options, { onText, onToken, signal } = {}) {
      const prompted = promptIds(prompt, { tokenizer, config, directory });
      const text = openText(tokenizer, prompted, { stop: options.stop, onText, directory });
      const written: number[] = [];
      let stopped: Written["stopped"] = "length";
      while (stopped === "length" && written.length < options.maxNewTokens) {
        const request = nextPart([...prompted, ...written], {
          contextLength: engine.contextLength,
          sampling: {
            ...options,
            maxNewTokens: options.maxNewTokens - written.length,
            writtenBefore: [...written],
            logitBias: [],
            stopTokens: endTokens,
          },
        });
        stopped = await follow(engine, request, {
          signal,
          onToken(id) {
            if (endTokens.includes(id)) return "end of text";
            written.push(id);
            onToken?.(id);
            return text?.add({ id }) === "stop" ? "stop string" : undefined;
          },
        });
      }
      const end = text?.end("length");
      return { text: end?.text ?? "", ids: written, newTokens: written.length, stopped };
    },
    close: () => engine.close(),
  };
}

/**
 * What the engine is asked for next. A text that has outgrown the context goes on with its latest half as a new one's beginning.
 * @param ids prompt and what has been written
 */
function nextPart(
  ids: readonly number[],
  { contextLength, sampling }: { readonly contextLength: number; readonly sampling: SamplingParameters },
): SequenceRequest {
  const room = Math.min(sampling.maxNewTokens, Math.ceil(contextLength / 2));
  const prompt = ids.length + room <= contextLength ? ids : ids.slice(-(contextLength - room));
  return { prompt, sampling };
}

/** @param of.onToken says what the token ends the text as, if it does */
function follow(
  engine: InferenceEngine,
  request: SequenceRequest,
  of: { readonly signal: AbortSignal | undefined; onToken: (id: number) => Written["stopped"] | undefined },
): Promise<Written["stopped"]> {
  const { signal, onToken } = of;
  if (signal?.aborted) return Promise.resolve("aborted");
  return new Promise((resolve, reject) => {
    let stopped: Written["stopped"] | undefined;
    const finish = (how: () => void): void => {
      signal?.removeEventListener("abort", abort);
      how();
    };
    const sequence = engine.submit(request, {
      token({ id }) {
        stopped = onToken(id);
        return stopped === undefined ? undefined : "stop";
      },
      end: (reason) => finish(() => resolve(stopped ?? (reason === "cancelled" ? "aborted" : "length"))),
      failed: (error) => finish(() => reject(error)),
    });
    const abort = (): void => sequence.cancel();
    signal?.addEventListener("abort", abort);
  });
}

/** Undefined where there is nothing to decode with. */
function openText(
  tokenizer: Tokenizer | undefined,
  ids: readonly number[],
  of: { readonly directory: string } & Pick<WritingOptions, "stop"> & Pick<Live, "onText">,
): WrittenText | undefined {
  const { stop, onText, directory } = of;
  if (tokenizer !== undefined)
    return new WrittenText(tokenizer, ids, {
      stop,
      onPiece({ text }) {
        if (text !== "") onText?.(text);
      },
    });
  if (stop === undefined || stop.length === 0) return undefined;
  throw new InputError(
    `${directory} has no tokenizer.json, so that there is no text to look for stop strings in; leave them out, or put one there`,
  );
}

function promptIds(
  prompt: string | readonly number[],
  of: { readonly tokenizer: Tokenizer | undefined; readonly config: ModelConfig; readonly directory: string },
): number[] {
  const { tokenizer, config, directory } = of;
  if (typeof prompt !== "string") {
    const bad = prompt.find((id) => !Number.isSafeInteger(id) || id < 0 || id >= config.vocab_size);
    if (bad !== undefined)
      throw new InputError(`The prompt has token ${bad}; the model's vocab_size is ${config.vocab_size}`);
    if (prompt.length > 0) return [...prompt];
    throw new InputError("The prompt has no tokens; wanted at least one");
  }
  if (tokenizer === undefined)
    throw new InputError(
      `${directory} has no tokenizer.json; give the prompt as token ids (--ids 1,2,3), or put one there`,
    );
  const ids = encodePrompt(tokenizer, prompt);
  return ids.length > 0 ? ids : [tokenizer.endOfText];
}
