/** Options that several commands share. */
import { InvalidArgumentError } from "commander";
import { SMALLEST_VOCABULARY } from "../data/bpe.js";
import { launcherSize } from "../comm/mpi/library.js";
import { BOUNDS, type Bound, fits, wanted } from "../core/bounds.js";
import { checkEncoding } from "../data/encoding.js";

const WHOLE = /^\d+$/;
const DECIMAL = /^(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i;

/** A reader of an option's number: digits as people write them, within bounds. */
export function numberIn(bound: Bound): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!(bound.whole ? WHOLE : DECIMAL).test(text) || !fits(value, bound))
      throw new InvalidArgumentError(`wanted ${wanted(bound)}.`);
    return value;
  };
}

/** Of `--ranks`; a launcher starts as many as it likes. */
export const RANKS = numberIn(launcherSize() === undefined ? BOUNDS.ranks : BOUNDS.launchedRanks);

/** Of `--vocab-size`. */
export const VOCABULARY = numberIn({ ...BOUNDS.vocabulary, from: SMALLEST_VOCABULARY });

export const CORPUS = "sotu, a text file, or a directory of .txt files (subdirectories included)";
export const ENCODING = "of the text files: utf-8, latin1, utf-16le …";

/** A reader of `--encoding`. @throws InputError when Node knows no such encoding */
export function encodingName(text: string): string {
  checkEncoding(text, "--encoding");
  return text;
}

const UNITS: Readonly<Record<string, number>> = {
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/** A reader of bytes: "512MB", "1.5GiB". */
export function byteSize(text: string): number {
  const [, digits, unit] = /^(\d+\.?\d*|\.\d+) ?([kmg]i?b)$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(digits) * (UNITS[unit?.toLowerCase()] ?? NaN));
  if (!fits(bytes, BOUNDS.cacheBytes))
    throw new InvalidArgumentError("wanted a size such as 512MB or 1.5GiB.");
  return bytes;
}

/** `--set a=b --set c=d` */
export function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** A result as JSON if the flags say so, else as text. */
export function print(flags: { readonly json?: boolean }, result: unknown, text: string): void {
  if (flags.json) printJson(result);
  else process.stdout.write(`${text}\n`);
}

/** One column of a table of `Row`s. */
export interface Column<Row> {
  readonly name: string;
  readonly text: (row: Row) => string;
  /** Columns that say nothing about any row are left out. */
  readonly isWanted?: (rows: readonly Row[]) => boolean;
}

export function columnTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  markdown = false,
): string {
  const wanted = columns.filter(({ isWanted }) => isWanted?.(rows) ?? true);
  return (markdown ? markdownTable : formatTable)(
    wanted.map(({ name }) => name),
    rows.map((row) => wanted.map(({ text }) => text(row))),
  );
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}

/** A table with aligned columns; numbers to the right. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => [...row[column]].length)));
  const isNumeric = header.map((_, column) =>
    rows.every((row) => /^[-+]?[\d.,]+\s*(%|×|ms|MB|M|GB)?$|^–$/.test(row[column])),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => {
        const space = " ".repeat(widths[column] - [...cell].length);
        return isNumeric[column] ? space + cell : cell + space;
      })
      .join("  ")
      .trimEnd();
  return [line(header), widths.map((w) => "─".repeat(w)).join("  "), ...rows.map(line)].join("\n");
}

function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** Of the commands that run models. */
export const IGNORE_MEMORY = [
  "--ignore-memory",
  "go on although this machine or its control group has less memory than the run will need",
] as const;

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
