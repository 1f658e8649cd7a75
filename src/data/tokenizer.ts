import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { InputError } from "../core/errors.js";
import { BpeEncoder, type BpeModel, END_OF_TEXT } from "./bpe.js";

export interface Tokenizer {
  readonly vocabSize: number;
  /** Id of the token between documents. */
  readonly endOfText: number;
  encode(text: string): number[];
  decode(ids: Iterable<number>): string;
}

export function bpeTokenizer(model: BpeModel): Tokenizer {
  const encoder = new BpeEncoder(model);
  return {
    vocabSize: encoder.vocabSize,
    endOfText: model.vocabulary.get(END_OF_TEXT) as number,
    encode: (text) => encoder.encode(text),
    decode: (ids) => encoder.decode(ids),
  };
}

/** Hugging Face's `tokenizer.json` for a byte-level BPE. */
export function bpeToJson(model: BpeModel): unknown {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const id = model.vocabulary.get(END_OF_TEXT);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id,
        content: END_OF_TEXT,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(model.vocabulary),
      merges: model.merges,
    },
  };
}

export function saveTokenizer(model: BpeModel, path: string): void {
  writeFileSync(path, JSON.stringify(bpeToJson(model)));
}

interface TokenizerJson {
  model?: { type?: string; vocab?: Record<string, number>; merges?: (string | [string, string])[] };
  pre_tokenizer?: { type?: string } | null;
  normalizer?: unknown;
  added_tokens?: { id: number; content: string }[];
}

/**
 * Reads `tokenizer.json` (a file, or the directory that holds it). A byte-level BPE like ours is read by ours; any other goes
 * through Hugging Face's own implementation.
 * @throws InputError when the file is missing or not a tokenizer
 */
export function loadTokenizer(path: string): Tokenizer {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, "tokenizer.json") : path;
  let json: TokenizerJson;
  try {
    json = JSON.parse(readFileSync(file, "utf8")) as TokenizerJson;
  } catch (error) {
    throw new InputError(`Cannot read the tokenizer ${file}: ${(error as Error).message.split("\n")[0]}`);
  }
  const { model } = json;
  if (model?.vocab === undefined)
    throw new InputError(`${file} is not a Hugging Face tokenizer.json: it has no model.vocab`);
  const end = json.added_tokens?.find((t) => /endoftext|<\/s>|eos|end_of_text/i.test(t.content))?.id;
  const isOurs =
    model.type === "BPE" &&
    json.pre_tokenizer?.type === "ByteLevel" &&
    json.normalizer == null &&
    END_OF_TEXT in model.vocab;
  if (isOurs) {
    const merges = (model.merges ?? []).map((m) =>
      typeof m === "string" ? (m.split(" ") as [string, string]) : m,
    );
    return bpeTokenizer({ vocabulary: new Map(Object.entries(model.vocab)), merges });
  }
  const foreign = new HuggingFaceTokenizer(json as object, {});
  const ids = [...Object.values(model.vocab), ...(json.added_tokens ?? []).map((t) => t.id)];
  return {
    vocabSize: ids.reduce((a, b) => Math.max(a, b), 0) + 1,
    endOfText: end ?? 0,
    encode: (text) => [...foreign.encode(text).ids],
    decode: (tokens) => foreign.decode([...tokens]),
  };
}
