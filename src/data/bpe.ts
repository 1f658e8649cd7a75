/**
 * Byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2): training on a corpus, encoding, decoding,
 * and Hugging Face's `tokenizer.json`.
 */
import { InputError } from "../core/errors.js";

/** GPT-2's pre-tokenisation: contractions, words with their leading space, digits, punctuation, white space. */
const PRE_TOKEN = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
export const END_OF_TEXT = "<|endoftext|>";
/** The 256 bytes and end of text. */
export const SMALLEST_VOCABULARY = 257;

export interface BpeModel {
  /** Token → id. The 256 bytes first, then one token per merge, the end-of-text token last. */
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
}

/** GPT-2's printable character for each byte. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
})();

const BYTE_OF_CHARACTER = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));

function preTokens(text: string): string[] {
  return text.match(PRE_TOKEN) ?? [];
}

function toByteCharacters(text: string): string {
  let out = "";
  for (const byte of new TextEncoder().encode(text)) out += BYTE_CHARACTERS[byte];
  return out;
}

interface Word {
  readonly symbols: number[];
  readonly count: number;
}

/**
 * Merges the most frequent pair until the vocabulary has the size wanted; ties go to the pair seen first.
 * @throws InputError when `vocabSize` is below 257: the bytes and end of text
 */
export function trainBpe(
  texts: Iterable<string>,
  vocabSize: number,
  onProgress?: (done: number) => void,
): BpeModel {
  if (vocabSize < SMALLEST_VOCABULARY)
    throw new InputError(
      `A vocabulary of ${vocabSize} tokens is too small; a byte-level tokenizer needs at least ${SMALLEST_VOCABULARY}`,
    );
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const token of preTokens(text)) counts.set(token, (counts.get(token) ?? 0) + 1);
  const tokens = [...BYTE_CHARACTERS];
  const words: Word[] = [...counts].map(([text, count]) => ({
    symbols: [...new TextEncoder().encode(text)],
    count,
  }));
  const pairs = new PairCounts(words);
  const merges: [string, string][] = [];
  const wanted = vocabSize - SMALLEST_VOCABULARY;
  while (merges.length < wanted) {
    const best = pairs.best();
    if (best === undefined) break;
    const [a, b] = best;
    merges.push([tokens[a], tokens[b]]);
    pairs.merge(a, b, tokens.length);
    tokens.push(tokens[a] + tokens[b]);
    if (merges.length % 256 === 0) onProgress?.(merges.length / wanted);
  }
  const vocabulary = new Map(tokens.map((token, id) => [token, id]));
  vocabulary.set(END_OF_TEXT, tokens.length);
  return { vocabulary, merges };
}

const SHIFT = 2 ** 21;

/** Counts of neighbouring symbols with the words each occurs in, and a lazily corrected heap of the largest. */
class PairCounts {
  readonly #counts = new Map<number, number>();
  readonly #where = new Map<number, Set<number>>();
  readonly #order = new Map<number, number>();
  #heap: { pair: number; count: number }[] = [];

  constructor(readonly words: Word[]) {
    words.forEach((word, index) =>
      this.#eachPair(word.symbols, (pair) => this.#add(pair, word.count, index)),
    );
    this.#heap = [...this.#counts].map(([pair, count]) => ({ pair, count }));
    for (let i = (this.#heap.length >> 1) - 1; i >= 0; i--) this.#sink(i);
  }

  best(): [number, number] | undefined {
    for (;;) {
      const top = this.#heap[0];
      if (top === undefined) return undefined;
      const current = this.#counts.get(top.pair) ?? 0;
      if (top.count === current && current > 0) return [Math.floor(top.pair / SHIFT), top.pair % SHIFT];
      const last = this.#heap.pop() as { pair: number; count: number };
      if (this.#heap.length > 0) {
        this.#heap[0] = last;
        this.#sink(0);
      }
    }
  }

  merge(a: number, b: number, merged: number): void {
    const touched = new Set<number>();
    for (const index of this.#where.get(a * SHIFT + b) ?? []) {
      const word = this.words[index];
      this.#eachPair(word.symbols, (pair) => {
        this.#counts.set(pair, (this.#counts.get(pair) ?? 0) - word.count);
        touched.add(pair);
      });
      const out: number[] = [];
      for (let i = 0; i < word.symbols.length; i++) {
        if (word.symbols[i] === a && word.symbols[i + 1] === b) {
          out.push(merged);
          i++;
        } else out.push(word.symbols[i]);
      }
      word.symbols.splice(0, word.symbols.length, ...out);
      this.#eachPair(out, (pair) => {
        this.#add(pair, word.count, index);
        touched.add(pair);
      });
    }
    this.#where.delete(a * SHIFT + b);
    for (const pair of touched) {
      const count = this.#counts.get(pair) ?? 0;
      if (count > 0) this.#push({ pair, count });
      else this.#counts.delete(pair);
    }
  }

  #eachPair(symbols: readonly number[], visit: (pair: number) => void): void {
    for (let i = 0; i + 1 < symbols.length; i++) visit(symbols[i] * SHIFT + symbols[i + 1]);
  }

  #add(pair: number, count: number, index: number): void {
    this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + count);
    let where = this.#where.get(pair);
    if (where === undefined) this.#where.set(pair, (where = new Set()));
    where.add(index);
    if (!this.#order.has(pair)) this.#order.set(pair, this.#order.size);
  }

  #before(i: number, j: number): boolean {
    const [a, b] = [this.#heap[i], this.#heap[j]];
    if (a.count !== b.count) return a.count > b.count;
    return (this.#order.get(a.pair) as number) < (this.#order.get(b.pair) as number);
  }

  #push(item: { pair: number; count: number }): void {
    this.#heap.push(item);
    let i = this.#heap.length - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#before(i, parent)) break;
      [this.#heap[i], this.#heap[parent]] = [this.#heap[parent], this.#heap[i]];
      i = parent;
    }
  }

  #sink(start: number): void {
    let i = start;
    for (;;) {
      let first = i;
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < this.#heap.length && this.#before(child, first)) first = child;
      if (first === i) return;
      [this.#heap[i], this.#heap[first]] = [this.#heap[first], this.#heap[i]];
      i = first;
    }
  }
}

/** Encodes and decodes: applies merges in the order they were learnt; words are cached. */
export class BpeTokenizer {
  readonly #rank = new Map<string, number>();
  readonly #tokens: string[] = [];
  readonly #cache = new Map<string, readonly number[]>();

  constructor(readonly model: BpeModel) {
    model.merges.forEach(([a, b], rank) => this.#rank.set(`${a} ${b}`, rank));
    for (const [token, id] of model.vocabulary) this.#tokens[id] = token;
  }

  get vocabSize(): number {
    return this.#tokens.length;
  }

  get endOfText(): number {
    return this.model.vocabulary.get(END_OF_TEXT) as number;
  }

  /** The end-of-text token may stand in the text by its name, as with Hugging Face's. */
  encode(text: string): number[] {
    const out: number[] = [];
    text.split(END_OF_TEXT).forEach((part, i) => {
      if (i > 0) out.push(this.endOfText);
      for (const token of preTokens(part)) for (const id of this.#word(token)) out.push(id);
    });
    return out;
  }

  decode(ids: Iterable<number>): string {
    const bytes: number[] = [];
    for (const id of ids) {
      const token = this.#tokens[id] ?? "";
      if (token === END_OF_TEXT) bytes.push(...new TextEncoder().encode(END_OF_TEXT));
      else for (const character of token) bytes.push(BYTE_OF_CHARACTER.get(character) as number);
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  }

  #word(text: string): readonly number[] {
    const known = this.#cache.get(text);
    if (known !== undefined) return known;
    const parts = [...toByteCharacters(text)];
    for (;;) {
      let best = Infinity;
      let at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.#rank.get(`${parts[i]} ${parts[i + 1]}`);
        if (rank !== undefined && rank < best) [best, at] = [rank, i];
      }
      if (at < 0) break;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
    const ids = parts.map((part) => this.model.vocabulary.get(part) as number);
    if (this.#cache.size < 500_000) this.#cache.set(text, ids);
    return ids;
  }
}
