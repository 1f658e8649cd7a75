/** A small tokenizer, and what a server knows of its model. */
import { BpeTokenizer, trainBpe } from "../../src/data/bpe.js";
import { bpeToJson } from "../../src/data/tokenizer.js";
import { chatTemplate } from "../../src/serve/chat-template.js";
import type { ServedModel } from "../../src/serve/model.js";
import { vocabularyOf } from "../../src/serve/vocabulary.js";

const TEXT = "the state of the union is strong, and the people of the nation are free; we the people";
export const bpe = trainBpe([TEXT], 300);
export const tokenizer = new BpeTokenizer(bpe);
export const END = tokenizer.endOfText;

export const model: ServedModel = {
  name: "tiny",
  tokenizer,
  vocabulary: vocabularyOf(tokenizer, bpeToJson(bpe)),
  chatTemplate: chatTemplate({ tokens: {} }),
  endTokens: [END],
};
