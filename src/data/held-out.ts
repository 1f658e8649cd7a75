/** Text that a model is evaluated on: the held-out part of a corpus, or a token file as it is. */
import { InputError } from "../core/errors.js";
import { type PrepareOptions, entropyOf, prepareData } from "./prepare.js";
import { TokenFile } from "./token-file.js";

export interface HeldOut {
  readonly validation: TokenFile;
  /** Undefined of a token file, which nobody says the tokenizer of. */
  readonly endOfText?: number | undefined;
  /** Nats per token under the text's own token frequencies. */
  readonly unigramEntropy: number;
}

/** Whether a corpus is a file of tokens. */
export function isTokenFile(corpus: string): boolean {
  return corpus.endsWith(".tokens");
}

/**
 * @param model for messages
 * @throws InputError when a text is to be read and there is no tokenizer, or the tokens are not the model's
 */
export function openHeldOut(options: PrepareOptions, model: string): HeldOut {
  if (isTokenFile(options.corpus)) return openTokens(options.corpus, options.vocabSize);
  if (options.tokenizer === undefined)
    throw new InputError(
      `${model} has no tokenizer.json, so no text can be read; put one there, or give a token file (--corpus x.tokens)`,
    );
  const { validation, tokenizer, unigramEntropy } = prepareData(options);
  return { validation, endOfText: tokenizer.endOfText, unigramEntropy };
}

const PIECE = 1 << 16;

function openTokens(path: string, vocabSize: number): HeldOut {
  const validation = TokenFile.open(path);
  const counts = new Float64Array(validation.vocabSize);
  let largest = 0;
  for (let at = 0; at < validation.length; at += PIECE) {
    const ids = new Int32Array(Math.min(PIECE, validation.length - at));
    validation.read(at, ids);
    for (const id of ids) {
      counts[id]++;
      largest = Math.max(largest, id);
    }
  }
  if (largest >= vocabSize)
    throw new InputError(`${path} has token ${largest}; the model's vocab_size is ${vocabSize}`);
  return { validation, unigramEntropy: entropyOf(counts) };
}
