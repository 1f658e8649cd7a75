/** From a corpus to a tokenizer and token files, cached by what they were made from. */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { trainBpe } from "./bpe.js";
import { readCorpus, unigramEntropy } from "./corpus.js";
import { TokenFile, writeTokenFile } from "./token-file.js";
import { type Tokenizer, bpeToJson, loadTokenizer } from "./tokenizer.js";

export interface PreparedData {
  readonly directory: string;
  readonly tokenizer: Tokenizer;
  readonly train: TokenFile;
  readonly validation: TokenFile;
  /** Nats per token of the validation text under its own token frequencies. */
  readonly unigramEntropy: number;
}

export interface PrepareOptions {
  readonly corpus: string;
  readonly vocabSize: number;
  /** A tokenizer.json to use instead of training one. */
  readonly tokenizer?: string;
  readonly cacheDirectory: string;
  readonly onProgress?: (what: string, share: number) => void;
}

/** @throws InputError when the corpus is missing or empty, or the tokenizer has more tokens than the model */
export function prepareData(options: PrepareOptions): PreparedData {
  if (options.vocabSize < 257)
    throw new InputError(`vocab_size is ${options.vocabSize}; a byte-level tokenizer needs at least 257`);
  const corpus = readCorpus(options.corpus);
  const hash = createHash("sha256").update(JSON.stringify([2, options.vocabSize]));
  for (const text of [...corpus.train, "\0", ...corpus.validation]) hash.update(text);
  if (options.tokenizer !== undefined) hash.update(readFileSync(tokenizerFile(options.tokenizer)));
  const directory = join(options.cacheDirectory, hash.digest("hex").slice(0, 16));
  if (!existsSync(join(directory, "facts.json"))) build(directory, corpus, options);
  return openPrepared(directory, options.vocabSize);
}

export function openPrepared(directory: string, vocabSize: number): PreparedData {
  const tokenizer = loadTokenizer(directory);
  if (tokenizer.vocabSize > vocabSize)
    throw new InputError(
      `The tokenizer has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${vocabSize}`,
    );
  const facts = JSON.parse(readFileSync(join(directory, "facts.json"), "utf8")) as { unigramEntropy: number };
  return {
    directory,
    tokenizer,
    train: TokenFile.open(join(directory, "train.tokens")),
    validation: TokenFile.open(join(directory, "validation.tokens")),
    unigramEntropy: facts.unigramEntropy,
  };
}

function tokenizerFile(path: string): string {
  const file = path.endsWith(".json") ? path : join(path, "tokenizer.json");
  if (!existsSync(file)) throw new InputError(`Cannot read the tokenizer ${file}: it does not exist`);
  return file;
}

function build(directory: string, corpus: ReturnType<typeof readCorpus>, options: PrepareOptions): void {
  const progress = options.onProgress ?? (() => undefined);
  mkdirSync(dirname(directory), { recursive: true });
  // A directory of its own for each rank: ranks may be threads of one process.
  const temporary = mkdtempSync(`${directory}.tmp-`);
  if (options.tokenizer !== undefined)
    copyFileSync(tokenizerFile(options.tokenizer), join(temporary, "tokenizer.json"));
  else {
    const model = trainBpe(corpus.train, options.vocabSize, (share) =>
      progress("training the tokenizer", share),
    );
    writeFileSync(join(temporary, "tokenizer.json"), JSON.stringify(bpeToJson(model)));
  }
  const tokenizer = loadTokenizer(temporary);
  let entropy = 0;
  for (const part of ["train", "validation"] as const) {
    const ids: number[] = [];
    corpus[part].forEach((text, i) => {
      for (const id of tokenizer.encode(text)) ids.push(id);
      ids.push(tokenizer.endOfText);
      progress(`encoding the ${part} text`, (i + 1) / corpus[part].length);
    });
    if (ids.length < 2)
      throw new InputError(`The corpus ${options.corpus} has too little text: ${ids.length} ${part} tokens`);
    writeTokenFile(join(temporary, `${part}.tokens`), Uint32Array.from(ids), tokenizer.vocabSize);
    if (part === "validation") entropy = unigramEntropy(ids);
  }
  writeFileSync(
    join(temporary, "facts.json"),
    JSON.stringify({ corpus: corpus.name, unigramEntropy: entropy }),
  );
  try {
    renameSync(temporary, directory);
  } catch (error) {
    // Another rank has built the same in the meantime: its result stands.
    if (!existsSync(join(directory, "facts.json"))) throw error;
    rmSync(temporary, { recursive: true });
  }
}
