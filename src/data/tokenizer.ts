import { dirname, join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { InputError } from "../core/errors.js";
import { isDirectory, makeDirectory, readText, replaceFile } from "../storage/files.js";
import { checkTokenizerJson, guarded } from "./tokenizer-json.js";
import { BYTE_CHARACTERS, BpeTokenizer, type BpeModel, END_OF_TEXT } from "./bpe.js";

export interface Tokenizer {
  readonly vocabSize: number;
  /** Id of the token between documents. */
  readonly endOfText: number;
  encode(text: string): number[];
  /**
   * The ids of `encode`, some at a time, so that those of a long text need not all be in memory.
   * @param onProgress called often; what it throws ends the work
   */
  encodePieces(text: string, onProgress?: (share: number) => void): Iterable<ArrayLike<number>>;
  decode(ids: Iterable<number>): string;
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

/** @throws EnvironmentError when it cannot be written */
export function saveTokenizer(model: BpeModel, path: string): void {
  makeDirectory(dirname(path));
  replaceFile(path, JSON.stringify(bpeToJson(model)));
}

interface TokenizerJson {
  readonly model?: {
    readonly type?: string;
    /** Unigram lists [token, score]; the others map tokens to ids. */
    readonly vocab?: Readonly<Record<string, number>> | readonly unknown[];
    readonly merges?: readonly (string | readonly [string, string])[];
    readonly [key: string]: unknown;
  };
  readonly pre_tokenizer?: { type?: string; add_prefix_space?: boolean; use_regex?: boolean } | null;
  readonly normalizer?: unknown;
  readonly post_processor?: { type?: string } | null;
  readonly added_tokens?: readonly { readonly id: number; readonly content: string }[];
}

/** How published tokenizers name the token that ends a text, most telling first. */
const END_NAMES = [
  END_OF_TEXT,
  "<|end_of_text|>",
  "</s>",
  "<eos>",
  "[EOS]",
  "<|eot_id|>",
  "<|im_end|>",
  "[SEP]",
];

/** @param path a tokenizer.json, or the directory that holds it */
export function tokenizerFile(path: string): string {
  return isDirectory(path) ? join(path, "tokenizer.json") : path;
}

/**
 * Reads `tokenizer.json` (a file, or the directory that holds it). A byte-level BPE like ours is read by ours, several times
 * faster; any other goes through Hugging Face's own implementation. Both give the same ids.
 * @throws InputError when the file is missing or not a tokenizer
 */
export function loadTokenizer(path: string): Tokenizer {
  const file = tokenizerFile(path);
  const text = readText(file, "the tokenizer");
  let json: TokenizerJson | null = null;
  try {
    json = JSON.parse(text) as TokenizerJson | null;
  } catch {
    throw new InputError(`${file} is not a tokenizer.json: it is not JSON`);
  }
  checkTokenizerJson(json, file);
  if (typeof json?.model?.vocab !== "object" || json.model.vocab === null)
    throw new InputError(`${file} is not a Hugging Face tokenizer.json: it has no model.vocab`);
  const own = ownModel(json);
  if (own === undefined) return foreignTokenizer(json, file);
  const odd = own.merges.findIndex(([left, right]) => !own.vocabulary.has(left + right));
  if (odd >= 0)
    throw new InputError(
      `${file}: merge ${odd} (${JSON.stringify(own.merges[odd])}) makes no token of model.vocab; the file is damaged`,
    );
  return new BpeTokenizer(own);
}

/** The model, when nothing in the file asks for more than our encoder does. */
function ownModel({ model, pre_tokenizer, normalizer, post_processor, added_tokens }: TokenizerJson) {
  const vocabulary = new Map(Object.entries((model?.vocab ?? {}) as Record<string, number>));
  const isPlain =
    model?.type === "BPE" &&
    !model.dropout &&
    !model.unk_token &&
    !model.continuing_subword_prefix &&
    !model.end_of_word_suffix &&
    !model.byte_fallback &&
    !model.ignore_merges &&
    pre_tokenizer?.type === "ByteLevel" &&
    pre_tokenizer.add_prefix_space === false &&
    pre_tokenizer.use_regex !== false &&
    normalizer == null &&
    (post_processor == null || post_processor.type === "ByteLevel") &&
    BYTE_CHARACTERS.every((character) => vocabulary.has(character)) &&
    (added_tokens ?? []).every((t) => t.content === END_OF_TEXT && vocabulary.get(END_OF_TEXT) === t.id) &&
    vocabulary.has(END_OF_TEXT);
  if (!isPlain) return undefined;
  const merges = (model.merges ?? []).map((m) =>
    typeof m === "string" ? (m.split(" ") as [string, string]) : m,
  );
  return { vocabulary, merges };
}

function foreignTokenizer(json: TokenizerJson, file: string): Tokenizer {
  const vocab = json.model?.vocab ?? {};
  const added = json.added_tokens ?? [];
  const ids = Array.isArray(vocab)
    ? vocab.map((_, id) => id)
    : Object.values(vocab as Record<string, number>);
  const idOf = new Map(added.map((t) => [t.content, t.id]));
  if (!Array.isArray(vocab))
    for (const [token, id] of Object.entries(vocab as Record<string, number>)) idOf.set(token, id);
  const end = END_NAMES.find((name) => idOf.has(name));
  if (end === undefined)
    throw new InputError(`${file} has no token that ends a text; wanted one of ${END_NAMES.join(", ")}`);
  const foreign = guarded(() => new HuggingFaceTokenizer(json, {}), file);
  const encode = (text: string): number[] => {
    try {
      // No "begin of text" in the middle of a corpus or prompt.
      return [...foreign.encode(text, { add_special_tokens: false }).ids];
    } catch (error) {
      // The library matches and collects a text as a whole, which overflows the stack where a word is very long.
      if (error instanceof RangeError)
        throw new InputError(
          `The tokenizer ${file} cannot encode a text of ${text.length} characters in one piece (${error.message}); split the text into several files`,
        );
      throw error;
    }
  };
  return {
    vocabSize: [...ids, ...added.map((t) => t.id)].reduce((a, b) => Math.max(a, b), 0) + 1,
    endOfText: idOf.get(end) as number,
    encode,
    encodePieces: (text) => [encode(text)],
    decode(tokens) {
      const list = [...tokens];
      return list.length === 0 ? "" : foreign.decode(list, { clean_up_tokenization_spaces: false });
    },
  };
}
