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
import { type SamplingOptions, sample } from "./sampling.js";
import { type TextStream, textStream } from "./text-stream.js";

export interface Generator {
  /** A published folder may have none: then there are only token ids. */
  readonly tokenizer?: Tokenizer | undefined;
  readonly config: ModelConfig;
  /**
   * A context longer than the model slides.
   * @param prompt text, or the ids of its tokens
   * @throws InputError when the prompt has a token the model does not know, or is text and there is no tokenizer;
   *   NumericsError when logits are not finite
   */
  generate(prompt: string | readonly number[], options: SamplingOptions, live?: Live): Promise<Written>;
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
  readonly ids: readonly number[];
  readonly newTokens: number;
  readonly stopped: "length" | "end of text" | "aborted";
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
      const stream = tokenizer === undefined ? SILENT : textStream(tokenizer, ids, onText);
      let stopped: Written["stopped"] = "length";
      while (ids.length - prompted < options.maxNewTokens) {
        // The event loop must turn for an abort to be seen.
        await new Promise((resolve) => setImmediate(resolve));
        if (signal?.aborted) {
          stopped = "aborted";
          break;
        }
        const context = ids.slice(-config.max_position_embeddings);
        const id = sample(next.logits(context), options, ids.length - prompted);
        if (ends.has(id)) {
          stopped = "end of text";
          break;
        }
        ids.push(id);
        onToken?.(id);
        stream.add(id);
      }
      const written = ids.slice(prompted);
      return { text: stream.end(), ids: written, newTokens: written.length, stopped };
    },
  };
}

/** Where there is nothing to decode with. */
const SILENT: TextStream = { add: () => undefined, end: () => "" };

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
