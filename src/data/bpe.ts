/** Byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2): training on a corpus, encoding, decoding. */
import { InputError } from "../core/errors.js";
import { BYTE_CHARACTERS, type BpeModel, END_OF_TEXT, SMALLEST_VOCABULARY } from "./bpe-model.js";
import { MergeTable } from "./merge-table.js";
import { type CountedWord, PairCounts } from "./pair-counts.js";
import { endOfPreToken } from "./pre-tokens.js";
import { cutAt } from "./symbol-row.js";
import { WordMerger } from "./word-merger.js";

const BYTE_OF_CHARACTER = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

/** Called often, also within a single long text or word: what it throws ends the work. `share` runs from 0 to 1. */
export type OnProgress = (share: number) => void;

/** Characters scanned, or places looked at, from one call of `onProgress` to the next: a few tens of milliseconds. */
const PROGRESS_INTERVAL = 1 << 17;
/** In training, a longer run of letters (or of white space …) is no word: it is counted in pieces, which bounds memory. */
const LONGEST_WORD = 1 << 16;

/** A function that calls `report` every so many times it is called. */
function every(interval: number, report: () => void): () => void {
  let calls = 0;
  return () => {
    if (++calls < interval) return;
    calls = 0;
    report();
  };
}

/**
 * Merges the most frequent pair until the vocabulary has the size wanted; ties go to the pair seen first.
 * @throws InputError when `vocabSize` is below 257: the bytes and end of text
 */
export function trainBpe(texts: readonly string[], vocabSize: number, onProgress?: OnProgress): BpeModel {
  if (vocabSize < SMALLEST_VOCABULARY)
    throw new InputError(
      `A vocabulary of ${vocabSize} tokens is too small; a byte-level tokenizer needs at least ${SMALLEST_VOCABULARY}`,
    );
  const wanted = vocabSize - SMALLEST_VOCABULARY;
  const words = countWords(texts, (share) => onProgress?.(share / 2));
  const tokens = [...BYTE_CHARACTERS];
  const merges: [string, string][] = [];
  const tick = every(PROGRESS_INTERVAL, () => onProgress?.(0.5 + merges.length / (wanted + 1) / 2));
  const pairs = new PairCounts(words, tick);
  while (merges.length < wanted) {
    const best = pairs.best();
    if (best === undefined) break;
    const [left, right] = [tokens[best.a], tokens[best.b]];
    merges.push([left, right]);
    tokens.push(left + right);
    pairs.merge(best);
    if (merges.length % 256 === 0) onProgress?.(0.5 + merges.length / wanted / 2);
  }
  const vocabulary = new Map(tokens.map((token, id) => [token, id]));
  vocabulary.set(END_OF_TEXT, tokens.length);
  return { vocabulary, merges };
}

/** Different pre-tokens in the order in which they are first seen. */
function countWords(texts: readonly string[], onProgress: OnProgress): CountedWord[] {
  const counts = new Map<string, number>();
  const total = texts.reduce((sum, text) => sum + text.length, 0);
  let before = 0;
  for (const text of texts) {
    let reported = 0;
    for (let at = 0; at < text.length;) {
      const end = endOfPreToken(text, at, text.length);
      while (at < end) {
        const word = text.slice(at, Math.min(end, cutAt(text, at + LONGEST_WORD)));
        counts.set(word, (counts.get(word) ?? 0) + 1);
        at += word.length;
        if (at - reported < PROGRESS_INTERVAL) continue;
        reported = at;
        onProgress((before + at) / total);
      }
    }
    before += text.length;
  }
  return [...counts];
}

/** Words whose tokens are remembered: the frequent ones are among the first. */
const MOST_REMEMBERED = 1 << 16;
const LONGEST_REMEMBERED = 64;
/** Ids handed out at a time. */
const PIECE = 1 << 14;

/** Encodes and decodes: applies merges in the order they were learnt; words are remembered. */
export class BpeTokenizer {
  readonly #merger: WordMerger;
  /** Id of each symbol of the merges. */
  readonly #ids: Int32Array;
  readonly #tokens: string[] = [];
  readonly #remembered = new Map<string, readonly number[]>();

  constructor(readonly model: BpeModel) {
    const table = new MergeTable(model);
    this.#merger = new WordMerger(table);
    this.#ids = Int32Array.from(table.tokens, (token) => model.vocabulary.get(token) ?? -1);
    for (const [token, id] of model.vocabulary) this.#tokens[id] = token;
  }

  get vocabSize(): number {
    return this.#tokens.length;
  }

  /** Nothing is put around a text. */
  readonly beginning: readonly number[] = [];
  readonly ending: readonly number[] = [];

  get endOfText(): number {
    return this.model.vocabulary.get(END_OF_TEXT) as number;
  }

  /** The end-of-text token may stand in the text by its name, as with Hugging Face's. */
  encode(text: string): number[] {
    const out: number[] = [];
    for (const piece of this.encodePieces(text)) for (const id of piece) out.push(id);
    return out;
  }

  /** The ids of `encode`, some at a time, so that they need not all be in memory. */
  *encodePieces(text: string, onProgress?: OnProgress): Generator<Int32Array> {
    const piece = new Int32Array(PIECE);
    let filled = 0;
    let reported = 0;
    let start = 0;
    const tick = every(PROGRESS_INTERVAL, () => onProgress?.(start / text.length));
    while (start < text.length) {
      const found = text.indexOf(END_OF_TEXT, start);
      const end = found < 0 ? text.length : found;
      while (start < end) {
        const next = endOfPreToken(text, start, end);
        for (const id of this.#word(text.slice(start, next), tick)) {
          piece[filled++] = id;
          if (filled < PIECE) continue;
          yield piece.slice();
          filled = 0;
        }
        start = next;
        if (start - reported < PROGRESS_INTERVAL) continue;
        reported = start;
        onProgress?.(start / text.length);
      }
      if (found < 0) break;
      piece[filled++] = this.endOfText;
      start = end + END_OF_TEXT.length;
      if (filled < PIECE) continue;
      yield piece.slice();
      filled = 0;
    }
    if (filled > 0) yield piece.slice(0, filled);
  }

  decode(ids: Iterable<number>): string {
    let bytes = new Uint8Array(1024);
    let length = 0;
    for (const id of ids) {
      const token = this.#tokens[id] ?? "";
      if (length + token.length > bytes.length) {
        const longer = new Uint8Array(2 * (length + token.length));
        longer.set(bytes);
        bytes = longer;
      }
      // The special token's name is plain ASCII, whose characters stand for themselves.
      for (const character of token) bytes[length++] = BYTE_OF_CHARACTER.get(character) ?? 0;
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, length));
  }

  tokenBytes(id: number): number[] {
    return Array.from(this.#tokens[id] ?? "", (character) => BYTE_OF_CHARACTER.get(character) ?? 0);
  }

  /** Bytes that are no character change nothing but themselves. */
  isByte(): boolean {
    return false;
  }

  #word(text: string, tick: () => void): Iterable<number> {
    const known = this.#remembered.get(text);
    if (known !== undefined) return known;
    const ids = this.#idsOf(text, tick);
    if (text.length > PIECE) return ids;
    const list = [...ids];
    if (text.length <= LONGEST_REMEMBERED && this.#remembered.size < MOST_REMEMBERED)
      this.#remembered.set(text, list);
    return list;
  }

  *#idsOf(text: string, tick: () => void): Generator<number> {
    for (const symbol of this.#merger.symbols(text, tick)) yield this.#ids[symbol];
  }
}

export { BYTE_CHARACTERS, type BpeModel, END_OF_TEXT, SMALLEST_VOCABULARY } from "./bpe-model.js";
