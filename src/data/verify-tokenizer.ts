/** A tokenizer against another implementation's ids and texts: a folder with `tokenizer.json` and `cases.json`. */
import { join } from "node:path";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { readText } from "../storage/files.js";
import { isFields } from "./tokenizer/part.js";
import { readTokenizer } from "./tokenizer.js";

interface Case {
  readonly text: string;
  readonly ids: readonly number[];
  readonly decoded: string;
}

/** One case where the two differ; what is shown of long ones begins a little before the first difference. */
export interface TokenizerDifference {
  readonly index: number;
  readonly what: "ids" | "decoded text";
  /** The case's text, in ASCII. */
  readonly text: string;
  readonly found: string;
  readonly wanted: string;
}

/** How a tokenizer compares with another implementation's. */
export interface TokenizerReport {
  readonly kind: "tokenizer";
  readonly directory: string;
  readonly cases: number;
  readonly equalIds: number;
  readonly equalTexts: number;
  /** Whether the ids of the cases have the special tokens around them that the tokenizer puts there. */
  readonly specialTokens: boolean;
  /** The first few. */
  readonly differences: readonly TokenizerDifference[];
  readonly passed: boolean;
}

const MOST_SHOWN = 5;

/** What a folder holds that `verifyTokenizer` takes. */
export const TOKENIZER_CASES = ["tokenizer.json", "cases.json"] as const;

/**
 * Encodes each case's text, decodes each case's ids, and counts what is equal.
 * @throws InputError when one of the files is missing, damaged or not what it should be
 */
export function verifyTokenizer(directory: string): TokenizerReport {
  const tokenizer = readTokenizer(directory);
  const cases = readCases(join(directory, "cases.json"));
  const { beginning, ending } = tokenizer;
  const plain = cases.map(({ text }) => tokenizer.encode(text));
  const special = plain.map((ids) => [...beginning, ...ids, ...ending]);
  const isEqual = (ids: readonly number[], i: number): boolean => firstDifference(ids, cases[i].ids) < 0;
  const count = (all: readonly (readonly number[])[]): number => all.filter(isEqual).length;
  const specialTokens = count(special) > count(plain);
  const ids = specialTokens ? special : plain;
  const texts = cases.map((c) => tokenizer.decode(c.ids));
  const differences = cases.flatMap((c, index) => {
    const text = ascii(c.text);
    const found: TokenizerDifference[] = [];
    if (!isEqual(ids[index], index))
      found.push({ index, what: "ids", text, ...parted(ids[index], c.ids, (part) => part.join(" ")) });
    if (texts[index] !== c.decoded)
      found.push({
        index,
        what: "decoded text",
        text,
        ...parted([...texts[index]], [...c.decoded], (part) => ascii(part.join(""))),
      });
    return found;
  });
  return {
    kind: "tokenizer",
    directory,
    cases: cases.length,
    equalIds: count(ids),
    equalTexts: cases.filter((c, i) => texts[i] === c.decoded).length,
    specialTokens,
    differences: differences.slice(0, MOST_SHOWN),
    passed: differences.length === 0,
  };
}

/** The place of the first, or -1. */
function firstDifference(a: readonly unknown[], b: readonly unknown[]): number {
  const at = a.findIndex((x, i) => x !== b[i]);
  return at < 0 && a.length < b.length ? a.length : at;
}

const BEFORE = 3;
const SHOWN = 12;

function parted<T>(
  found: readonly T[],
  wanted: readonly T[],
  show: (part: readonly T[]) => string,
): { found: string; wanted: string } {
  const from = Math.max(0, firstDifference(found, wanted) - BEFORE);
  const part = (list: readonly T[]): string =>
    `${from > 0 ? "… " : ""}${show(list.slice(from, from + SHOWN))}${list.length > from + SHOWN ? " …" : ""}`;
  return { found: part(found), wanted: part(wanted) };
}

const LONGEST_TEXT = 80;

/** As JSON, with all that is not ASCII escaped; of long texts the beginning. */
function ascii(text: string): string {
  const short = [...text].slice(0, LONGEST_TEXT).join("");
  const json = JSON.stringify(short).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return short.length < text.length ? `${json}…` : json;
}

function readCases(file: string): Case[] {
  let json: unknown;
  try {
    json = JSON.parse(readText(file, "the tokenizer's cases"));
  } catch (error) {
    if (error instanceof SyntaxError) throw new InputError(`${file} is not JSON`);
    throw error;
  }
  if (!Array.isArray(json)) throw new InputError(`${file} is ${shown(json)}; wanted a list of cases`);
  return json.map((entry: unknown, i) => {
    const isRight =
      isFields(entry) &&
      typeof entry.text === "string" &&
      Array.isArray(entry.ids) &&
      entry.ids.every((id) => Number.isInteger(id) && Number(id) >= 0) &&
      typeof entry.decoded === "string";
    if (!isRight)
      throw new InputError(`${file}: case ${i} is ${shown(entry)}; wanted text, ids and decoded text`);
    return entry as unknown as Case;
  });
}
