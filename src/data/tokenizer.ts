import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { exists, isDirectory, makeDirectory, readText, replaceFile } from "../storage/files.js";
import { BYTE_CHARACTERS, BpeTokenizer, type BpeModel, END_OF_TEXT } from "./bpe.js";
import type { Tokenizer } from "./tokenizer/interface.js";
import { type Fields, isFields } from "./tokenizer/part.js";
import { readPipeline } from "./tokenizer/pipeline.js";
import { END_NAMES } from "./tokenizer/special-tokens.js";
import { checkTokenizerJson } from "./tokenizer-json.js";

export { type Tokenizer, encodePrompt } from "./tokenizer/interface.js";

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

/** @param path a tokenizer.json, or the directory that holds it */
export function tokenizerFile(path: string): string {
  return isDirectory(path) ? join(path, "tokenizer.json") : path;
}

/** What a tokenizer consists of: itself, and what says where its texts begin and end. */
const TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json"];

/**
 * The content of a tokenizer's files by name, as they are kept beside what was made with it.
 * @param path a tokenizer.json, or the directory that holds it
 * @throws InputError when there is no tokenizer.json, or a file cannot be read
 */
export function tokenizerTexts(path: string): ReadonlyMap<string, string> {
  const file = tokenizerFile(path);
  const texts = new Map([[TOKENIZER_FILES[0], readText(file, "the tokenizer")]]);
  for (const name of TOKENIZER_FILES.slice(1)) {
    const beside = join(dirname(file), name);
    if (exists(beside)) texts.set(name, readText(beside, "the tokenizer's settings"));
  }
  return texts;
}

/**
 * Reads `tokenizer.json` (a file, or the directory that holds it), and `tokenizer_config.json` beside it where there is one.
 * A byte-level BPE like ours is read by ours, several times faster; any other is a pipeline of the stages that the file names.
 * Both give the ids of Hugging Face's `tokenizers`.
 * @throws InputError when the file is missing or not a tokenizer, or asks for what is not offered
 */
export function loadTokenizer(path: string): Tokenizer {
  const tokenizer = readTokenizer(path);
  const { endOfText } = tokenizer;
  if (endOfText === undefined)
    throw new InputError(
      `${tokenizerFile(path)} has no token that ends a text; wanted one of ${END_NAMES.join(", ")}`,
    );
  // In place, as the methods may be of a class.
  return tokenizer as Tokenizer;
}

/** As `loadTokenizer`, for uses that need no end of text. */
export function readTokenizer(
  path: string,
): Omit<Tokenizer, "endOfText"> & { readonly endOfText: number | undefined } {
  const file = tokenizerFile(path);
  const json = readJson(file, "tokenizer.json");
  checkTokenizerJson(json, file);
  if (!isFields(json) || !isFields(json.model) || typeof json.model.vocab !== "object" || !json.model.vocab)
    throw new InputError(`${file} is not a Hugging Face tokenizer.json: it has no model.vocab`);
  const configFile = join(dirname(file), "tokenizer_config.json");
  const config = exists(configFile) ? readJson(configFile, "tokenizer_config.json") : {};
  if (!isFields(config)) throw new InputError(`${configFile} is not an object of settings`);
  const own = ownModel(json, config);
  if (own === undefined) return stagesOf(json, config, file);
  const odd = own.merges.findIndex(
    ([left, right]) => ![left, right, left + right].every((token) => own.vocabulary.has(token)),
  );
  if (odd >= 0)
    throw new InputError(
      `${file}: merge ${odd} (${JSON.stringify(own.merges[odd])}) makes no token of model.vocab; the file is damaged`,
    );
  return new BpeTokenizer(own);
}

function stagesOf(json: Fields, config: Fields, file: string): ReturnType<typeof readPipeline> {
  try {
    return readPipeline(json, config, file);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new InputError(`${file} has parts within each other too deep to be read`);
  }
}

/** @param kind what the file should be */
function readJson(file: string, kind: string): unknown {
  const text = readText(file, "the tokenizer");
  try {
    return JSON.parse(text);
  } catch {
    throw new InputError(`${file} is not a ${kind}: it is not JSON`);
  }
}

/** The model, when nothing in the files asks for more than our encoder does. */
function ownModel(json: Fields, config: Fields): BpeModel | undefined {
  const { model, pre_tokenizer: pre, decoder, post_processor: post } = json as Record<string, Fields | null>;
  const vocab = model?.vocab as Record<string, number>;
  const added = (json.added_tokens ?? []) as Fields[];
  const isPlain =
    model?.type === "BPE" &&
    !model.dropout &&
    !model.unk_token &&
    !model.continuing_subword_prefix &&
    !model.end_of_word_suffix &&
    !model.byte_fallback &&
    !model.ignore_merges &&
    pre?.type === "ByteLevel" &&
    pre.add_prefix_space === false &&
    pre.use_regex !== false &&
    json.normalizer == null &&
    decoder?.type === "ByteLevel" &&
    (post == null || post.type === "ByteLevel") &&
    config.add_bos_token !== true &&
    config.add_eos_token !== true &&
    BYTE_CHARACTERS.every((character) => Object.hasOwn(vocab, character)) &&
    added.length === 1 &&
    added[0].content === END_OF_TEXT &&
    Object.hasOwn(vocab, END_OF_TEXT) &&
    !["single_word", "lstrip", "rstrip"].some((key) => added[0][key]);
  if (!isPlain) return undefined;
  const merges = ((model.merges ?? []) as (string | [string, string])[]).map((m) =>
    typeof m === "string" ? (m.split(" ") as [string, string]) : m,
  );
  return { vocabulary: new Map(Object.entries(vocab)), merges };
}
