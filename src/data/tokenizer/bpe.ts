/** Byte-pair encoding of characters, as the reference implementation has it: unknown characters, byte fallback, affixes. */
import { LinkedRow } from "../linked-row.js";
import { Merger } from "../merger.js";
import { PairTable } from "../pair-table.js";
import type { Model } from "./model.js";
import { type Part, flag, refuse, text } from "./part.js";

const encoder = new TextEncoder();
/** Characters of a word that needs no memory of its own. */
const SHORT = 4096;

export function bpeModel(part: Part, vocabulary: ReadonlyMap<string, number>): Model {
  const { fields, where } = part;
  if (fields.dropout != null && fields.dropout !== 0)
    refuse(`${where}.dropout`, fields.dropout, "null: the same text must always give the same tokens");
  const optional = (key: string): string => (fields[key] == null ? "" : text(part, key));
  const prefix = optional("continuing_subword_prefix");
  const suffix = optional("end_of_word_suffix");
  const unknown = fields.unk_token == null ? undefined : text(part, "unk_token");
  const unknownId = unknown === undefined ? undefined : vocabulary.get(unknown);
  if (unknown !== undefined && unknownId === undefined)
    refuse(`${where}.unk_token`, unknown, "a token of model.vocab");
  const isFused = flag(part, "fuse_unk", false);
  const isFallback = flag(part, "byte_fallback", false);
  const isWhole = flag(part, "ignore_merges", false);
  const merges = mergesOf(part, vocabulary, prefix.length);
  const merger = new Merger(merges, SHORT);
  const shortRow = new LinkedRow(SHORT);
  const byteIds = Array.from({ length: 256 }, (_, byte) =>
    vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );

  /** The word's characters as ids. */
  const symbolsOf = (word: string): number[] => {
    const symbols: number[] = [];
    let held = false;
    const hold = (id: number): void => {
      if (held && !isFused) symbols.push(id);
      held = true;
    };
    let at = 0;
    for (const character of word) {
      const isStart = at === 0;
      at += character.length;
      const token = (isStart ? "" : prefix) + character + (at === word.length ? suffix : "");
      const id = vocabulary.get(token);
      if (id !== undefined) {
        if (held) symbols.push(unknownId as number);
        held = false;
        symbols.push(id);
        continue;
      }
      const bytes = isFallback ? Array.from(encoder.encode(token), (byte) => byteIds[byte]) : [undefined];
      // An unknown character that waits stays behind these bytes; so it is in the reference implementation.
      if (bytes.every((byte) => byte !== undefined)) symbols.push(...bytes);
      else if (unknownId !== undefined) hold(unknownId);
    }
    if (held) symbols.push(unknownId as number);
    return symbols;
  };

  return {
    encode(word, tick) {
      const whole = isWhole ? vocabulary.get(word) : undefined;
      if (whole !== undefined) return [whole];
      const symbols = symbolsOf(word);
      if (symbols.length < 2) return symbols;
      const row = symbols.length <= SHORT ? shortRow : new LinkedRow(symbols.length);
      const end = row.fill(symbols);
      merger.merge(row, end, tick);
      const ids: number[] = [];
      for (let i = 1; i < end; i = row.next(i)) ids.push(row.symbols[i]);
      return ids;
    },
  };
}

/** @param prefixLength of `continuing_subword_prefix`, which the right half of a merge begins with */
function mergesOf(
  { fields, where }: Part,
  vocabulary: ReadonlyMap<string, number>,
  prefixLength: number,
): PairTable {
  const idOf = (token: string, i: number, merge: unknown): number =>
    vocabulary.get(token) ??
    refuse(`${where}.merges[${i}]`, merge, `tokens of model.vocab, which has no ${JSON.stringify(token)}`);
  return new PairTable(
    ((fields.merges ?? []) as (string | [string, string])[]).map((merge, i) => {
      const halves = typeof merge === "string" ? merge.split(" ") : merge;
      if (halves.length !== 2) refuse(`${where}.merges[${i}]`, merge, "two tokens");
      const [left, right] = halves.map((half) => half.toWellFormed());
      const joined = left + right.slice(prefixLength);
      return [idOf(left, i, merge), idOf(right, i, merge), idOf(joined, i, merge)] as const;
    }),
  );
}
