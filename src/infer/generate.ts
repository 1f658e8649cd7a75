/** Writes one text with a model. */
import { InputError } from "../core/errors.js";
import { type Tokenizer, encodePrompt } from "../data/tokenizer.js";
import type { ModelConfig } from "../model/config.js";
import type { InferenceEngine, SequenceRequest } from "./engine.js";
import { type EngineOptions, openEngine } from "./open-engine.js";
import type { SampledToken, SamplingParameters, TokenLogprob } from "./sampling/sampling-parameters.js";
import { type GenerateRequest, type WritingOptions, checkPrompt, writingOptions } from "./writing-options.js";
import { WrittenText } from "./text/written-text.js";

/** A model that is open for writing. */
export interface Generator {
  readonly config: ModelConfig;
  /**
   * Texts that are asked for at the same time are written together, and each is what it would be alone. A text that outgrows the
   * context goes on with its latest half.
   * @param prompt text, or the ids of its tokens
   * @throws InputError when the prompt has a token that the model does not know, it or a stop string is text and there is no
   *   tokenizer, or an option does not fit; NumericsError when logits are not finite
   */
  generate(
    prompt: string | readonly number[],
    options?: Partial<WritingOptions>,
    live?: Live,
  ): Promise<Written>;
  /**
   * What `generate` would refuse of a request before it begins.
   * @param where what the request is, for messages
   * @throws InputError
   */
  check(where: string, request: GenerateRequest): void;
  close(): Promise<void>;
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
  /** Of each new token, where asked for. */
  readonly logprobs?: readonly TokenLogprob[] | undefined;
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
  const check: Generator["check"] = (where, { prompt, ...options }) => {
    const { stop = [] } = writingOptions(where, options);
    checkPrompt(where, prompt, { vocabSize: config.vocab_size });
    if (tokenizer === undefined) refuseText(where, { prompt, stop, directory });
  };
  return {
    config,
    check,
    async generate(prompt, said = {}, { onText, onToken, signal } = {}) {
      check("generate", { prompt, ...said });
      const options = writingOptions("generate", said);
      const prompted = typeof prompt === "string" ? idsOf(tokenizer as Tokenizer, prompt) : prompt;
      const text =
        tokenizer && new WrittenText(tokenizer, prompted, { stop: options.stop, onPiece: pieces(onText) });
      const written: number[] = [];
      const logprobs: TokenLogprob[] = [];
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
          onToken({ id, logprob }) {
            if (endTokens.includes(id)) return "end of text";
            written.push(id);
            if (logprob !== undefined) logprobs.push(logprob);
            onToken?.(id);
            return text?.add({ id }) === "stop" ? "stop string" : undefined;
          },
        });
      }
      const end = text?.end("length");
      const about = options.logprobs === undefined ? {} : { logprobs };
      return { text: end?.text ?? "", ids: written, newTokens: written.length, stopped, ...about };
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
  of: {
    readonly signal: AbortSignal | undefined;
    readonly onToken: (token: SampledToken) => Written["stopped"] | undefined;
  },
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
      token(token) {
        stopped = onToken(token);
        return stopped === undefined ? undefined : "stop";
      },
      end: (reason) => finish(() => resolve(stopped ?? (reason === "cancelled" ? "aborted" : "length"))),
      failed: (error) => finish(() => reject(error)),
    });
    const abort = (): void => sequence.cancel();
    signal?.addEventListener("abort", abort);
  });
}

function pieces(onText: Live["onText"]): (piece: { readonly text: string }) => void {
  return ({ text }) => {
    if (text !== "") onText?.(text);
  };
}

/** Of a model without a tokenizer. */
function refuseText(
  where: string,
  of: Pick<GenerateRequest, "prompt"> & { readonly stop: readonly string[]; readonly directory: string },
): void {
  const { prompt, stop, directory } = of;
  if (typeof prompt === "string")
    throw new InputError(
      `${where}: ${directory} has no tokenizer.json; give the prompt as token ids (--ids 1,2,3), or put one there`,
    );
  if (stop.length > 0)
    throw new InputError(
      `${where}: ${directory} has no tokenizer.json, so that there is no text to look for stop strings in; leave them out, or put one there`,
    );
}

/** A text of nothing is a new document. */
function idsOf(tokenizer: Tokenizer, prompt: string): number[] {
  const ids = encodePrompt(tokenizer, prompt);
  return ids.length > 0 ? ids : [tokenizer.endOfText];
}
