/** From a corpus to a tokenizer and token files, cached by what they were made from. */
import { createHash } from "node:crypto";
import { renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import {
  exists,
  isDirectory,
  makeDirectory,
  readText,
  removeQuietly,
  replaceFile,
  writing,
} from "../storage/files.js";
import { makeWorkDirectory, removeAbandoned } from "../storage/work-directory.js";
import { SMALLEST_VOCABULARY, trainBpe } from "./bpe.js";
import { type Corpus, readCorpus } from "./corpus.js";
import { TokenFile, writeTokenFile } from "./token-file.js";
import { type Tokenizer, loadTokenizer, saveTokenizer, tokenizerTexts } from "./tokenizer.js";

export interface PreparedData {
  readonly directory: string;
  /** SHA-256 of the text, whatever it was made into. */
  readonly text: string;
  readonly tokenizer: Tokenizer;
  readonly train: TokenFile;
  readonly validation: TokenFile;
  /** Nats per token of the validation text under its own token frequencies. */
  readonly unigramEntropy: number;
}

export interface PrepareOptions {
  readonly corpus: string;
  /** Of its text files. Default "utf-8". */
  readonly encoding?: string | undefined;
  readonly vocabSize: number;
  /** A tokenizer.json to use instead of training one. */
  readonly tokenizer?: string | undefined;
  readonly cacheDirectory: string;
  /** Called often; what it throws ends the preparation, and nothing is left behind. */
  readonly onProgress?: (what: string, share: number) => void;
  /** Told what a person should know of the corpus. */
  readonly say?: (line: string) => void;
}

/** Part of the key of the cache: raised when the same corpus would give other files. */
const FORMAT = 5;

/** @throws InputError when the corpus is missing, empty or not in its encoding, or the tokenizer has more tokens than the model */
export function prepareData(options: PrepareOptions): PreparedData {
  if (options.tokenizer === undefined && options.vocabSize < SMALLEST_VOCABULARY)
    throw new InputError(
      `vocab_size is ${options.vocabSize}; a byte-level tokenizer needs at least ${SMALLEST_VOCABULARY}`,
    );
  const corpus = readCorpus(options.corpus, options);
  const hash = createHash("sha256").update(JSON.stringify([FORMAT, options.vocabSize]));
  const textHash = createHash("sha256");
  // Where documents part counts: an end of text stands there.
  for (const text of [...corpus.train, "", ...corpus.validation])
    for (const of of [hash, textHash]) of.update(text).update("\0");
  let tokenizer: ReadonlyMap<string, string> | undefined;
  if (options.tokenizer !== undefined) {
    loadFitting(options.tokenizer, options.vocabSize);
    tokenizer = tokenizerTexts(options.tokenizer);
    for (const text of tokenizer.values()) hash.update(text);
  }
  const directory = join(options.cacheDirectory, hash.digest("hex").slice(0, 16));
  // What killed processes left of these or other data.
  if (isDirectory(options.cacheDirectory)) removeAbandoned(options.cacheDirectory);
  if (!exists(join(directory, "facts.json"))) buildDirectory(directory, corpus, tokenizer, options);
  return { ...openPrepared(directory, options.vocabSize), text: textHash.digest("hex") };
}

/** @throws InputError when files are missing or damaged, or the tokenizer has more tokens than the model */
export function openPrepared(directory: string, vocabSize: number): Omit<PreparedData, "text"> {
  const tokenizer = loadFitting(directory, vocabSize);
  let facts: { unigramEntropy?: number } | undefined;
  try {
    facts = JSON.parse(readText(join(directory, "facts.json"), "the prepared data")) as typeof facts;
  } catch {
    facts = undefined;
  }
  if (typeof facts?.unigramEntropy !== "number")
    throw new InputError(`${directory}/facts.json is damaged; delete ${directory}, it will be made again`);
  return {
    directory,
    tokenizer,
    train: TokenFile.open(join(directory, "train.tokens")),
    validation: TokenFile.open(join(directory, "validation.tokens")),
    unigramEntropy: facts.unigramEntropy,
  };
}

function loadFitting(path: string, vocabSize: number): Tokenizer {
  const tokenizer = loadTokenizer(path);
  if (tokenizer.vocabSize > vocabSize)
    throw new InputError(
      `The tokenizer has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${vocabSize}; set model.vocab_size to at least that`,
    );
  return tokenizer;
}

/** Built under a temporary name of its own for each rank (ranks may be threads of one process), then renamed. */
function buildDirectory(
  directory: string,
  corpus: Corpus,
  tokenizer: ReadonlyMap<string, string> | undefined,
  options: PrepareOptions,
): void {
  makeDirectory(dirname(directory));
  const temporary = makeWorkDirectory(directory);
  try {
    build(temporary, corpus, tokenizer, options);
    writing(directory, () => renameSync(temporary, directory));
  } catch (error) {
    removeQuietly(temporary);
    // Another rank has built the same in the meantime: its result stands.
    if (!exists(join(directory, "facts.json"))) throw error;
  }
}

function build(
  directory: string,
  corpus: Corpus,
  given: ReadonlyMap<string, string> | undefined,
  options: PrepareOptions,
): void {
  const progress = options.onProgress ?? (() => undefined);
  const file = join(directory, "tokenizer.json");
  for (const [name, text] of given ?? []) replaceFile(join(directory, name), text);
  if (given === undefined) {
    const label = "training the tokenizer";
    saveTokenizer(
      trainBpe(corpus.train, options.vocabSize, (share) => progress(label, share)),
      file,
    );
  }
  const tokenizer = loadFitting(file, options.vocabSize);
  let entropy = 0;
  for (const part of ["train", "validation"] as const) {
    const counts = new Float64Array(tokenizer.vocabSize);
    const length = writeTokenFile(
      join(directory, `${part}.tokens`),
      encodeDocuments(corpus[part], tokenizer, counts, (share) =>
        progress(`encoding the ${part} text`, share),
      ),
      tokenizer.vocabSize,
    );
    if (length < 2)
      throw new InputError(`The corpus ${options.corpus} has too little text: ${length} ${part} tokens`);
    if (part === "validation") entropy = entropyOf(counts);
  }
  replaceFile(
    join(directory, "facts.json"),
    JSON.stringify({ corpus: corpus.name, unigramEntropy: entropy }),
  );
}

/** Token ids piece by piece, each document followed by end of text; `counts` receives how often each occurs. */
function* encodeDocuments(
  texts: readonly string[],
  tokenizer: Tokenizer,
  counts: Float64Array,
  onProgress: (share: number) => void,
): Generator<ArrayLike<number>> {
  const total = texts.reduce((sum, text) => sum + text.length, 0);
  let before = 0;
  for (const text of texts) {
    const report = (share: number) => onProgress((before + share * text.length) / total);
    for (const ids of tokenizer.encodePieces(text, report)) {
      for (let i = 0; i < ids.length; i++) counts[ids[i]]++;
      yield ids;
    }
    counts[tokenizer.endOfText]++;
    yield [tokenizer.endOfText];
    report(1);
    before += text.length;
  }
}

/** Nats: the loss of a model that knows nothing but how often tokens occur. */
export function entropyOf(counts: Float64Array): number {
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.reduce(
    (sum, count) => (count === 0 ? sum : sum - (count / total) * Math.log(count / total)),
    0,
  );
}
