/** A model's folder as what is served of it. */
import { basename, resolve } from "node:path";
import { InputError } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import { type Tokenizer, readTokenizer } from "../data/tokenizer.js";
import { openModel } from "../run/open-model.js";
import { readText } from "../storage/files.js";
import { chatTemplate, readChatTemplate } from "./chat-template.js";
import type { ServedModel } from "./model.js";
import { vocabularyOf } from "./vocabulary.js";

/**
 * Everything but the weights.
 * @param path a run directory (its newest checkpoint), a checkpoint, or a published folder
 * @param name as requests have it; default: the folder's
 * @throws InputError when it is missing, damaged or not supported
 */
export function readServedModel(path: string, name = basename(resolve(path))): ServedModel {
  const model = openModel(path);
  model.close();
  const { config, tokenizer: file } = model;
  const ends = config.end_tokens ?? undefined;
  if (file === undefined)
    return {
      name,
      vocabulary: vocabularyOf(undefined),
      chatTemplate: chatTemplate({ tokens: {} }),
      endTokens: ends ?? [],
    };
  const tokenizer = servedTokenizer(file, ends);
  if (tokenizer.vocabSize > config.vocab_size)
    throw new InputError(
      `${file} has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${config.vocab_size}; they belong to different models`,
    );
  return {
    name,
    tokenizer,
    vocabulary: vocabularyOf(tokenizer, parseJson(readText(file, "the tokenizer"), file)),
    chatTemplate: readChatTemplate(file),
    endTokens: ends ?? [tokenizer.endOfText],
  };
}

/** The token that ends a text is the model's where the tokenizer names none. */
function servedTokenizer(file: string, ends: readonly number[] | undefined): Tokenizer {
  const tokenizer = readTokenizer(file);
  const endOfText = tokenizer.endOfText ?? ends?.[0];
  if (endOfText === undefined)
    throw new InputError(`${file} has no token that ends a text, and the model's config names none`);
  // Only a pipeline may have none, whose methods are functions of their own.
  return tokenizer.endOfText === undefined ? { ...tokenizer, endOfText } : (tokenizer as Tokenizer);
}
