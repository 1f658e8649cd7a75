/** Writes text with a model: the whole context is computed anew for each token. */
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import { type Tokenizer, encodePrompt, loadTokenizer } from "../data/tokenizer.js";
import type { Engine } from "../engine/engine.js";
import { type ModelConfig } from "../model/config.js";
import { loadWeights } from "../run/load-weights.js";
import { openModel } from "../run/open-model.js";
import { createRank } from "../run/rank.js";
import { NextToken } from "./next-token.js";
import { Sampler } from "./sampler.js";
import type { SamplingOptions } from "./sampling-parameters.js";
import { WrittenText } from "./written-text.js";

export interface Generator {
  /** A published folder may have none: then there are only token ids. */
  readonly tokenizer?: Tokenizer | undefined;
  readonly config: ModelConfig;
  /**
   * A context longer than the model slides.
   * @param prompt text, or the ids of its tokens
   * @throws InputError when the prompt has a token the model does not know, or it or a stop string is text and there is no
   *   tokenizer; NumericsError when logits are not finite
   */
  generate(prompt: string | readonly number[], options: WritingOptions, live?: Live): Promise<Written>;
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

/** @throws InputError when the model is missing, damaged or not supported, or its tokenizer belongs to another */
export function openGenerator(path: string, engine: Engine): Generator {
  const model = openModel(path);
  model.verify();
  // A token must not be dropped because of its neighbours: at inference every expert takes all rows it is sent.
  const config: ModelConfig = { ...model.config, capacity_factor: null };
  const rank = createRank({ config, engine, world: singleCommunicator() });
  loadWeights(rank, model.source);
  model.close();
  const { directory } = model;
  const tokenizer = model.tokenizer === undefined ? undefined : loadTokenizer(model.tokenizer);
  if (tokenizer !== undefined && tokenizer.vocabSize > config.vocab_size)
    throw new InputError(
      `${directory}: tokenizer.json has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${config.vocab_size}; they belong to different models`,
    );
  const next = new NextToken(rank);
  const ends = new Set(config.end_tokens ?? (tokenizer === undefined ? [] : [tokenizer.endOfText]));
  return {
    tokenizer,
    config,
    async generate(prompt, options, { onText, onToken, signal } = {}) {
      const ids = promptIds(prompt, { tokenizer, config, directory });
      const prompted = ids.length;
      const text = openText(tokenizer, ids, { stop: options.stop, onText, directory });
      const parameters = { ...options, logitBias: [], stopTokens: [] };
      const sampler = new Sampler(parameters, ids, config.vocab_size);
      let stopped: Written["stopped"] = "length";
      while (ids.length - prompted < options.maxNewTokens) {
        // The event loop must turn for an abort to be seen.
        await new Promise((resolve) => setImmediate(resolve));
        if (signal?.aborted) {
          stopped = "aborted";
          break;
        }
        const context = ids.slice(-config.max_position_embeddings);
        const { id } = sampler.next(next.logits(context));
        if (ends.has(id)) {
          stopped = "end of text";
          break;
        }
        ids.push(id);
        onToken?.(id);
        if (text?.add({ id }) === "stop") break;
      }
      const written = ids.slice(prompted);
      const end = text?.end("length");
      if (end?.stop !== undefined) stopped = "stop string";
      return { text: end?.text ?? "", ids: written, newTokens: written.length, stopped };
    },
  };
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
