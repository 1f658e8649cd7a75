/** The merges of a byte-level tokenizer as numbers. */
import { BYTE_CHARACTERS, type BpeModel } from "./bpe-model.js";
import type { Merges } from "./merger.js";
import { PairTable } from "./pair-table.js";

export class MergeTable implements Merges {
  /** String of each symbol; the first 256 are the bytes. One string is one symbol, whatever it was merged from. */
  readonly tokens: string[] = [...BYTE_CHARACTERS];
  /** Bytes of each symbol. */
  readonly lengths: readonly number[];
  readonly merged: Int32Array;
  readonly #pairs: PairTable;

  constructor({ merges }: BpeModel) {
    const symbolOf = new Map(this.tokens.map((token, symbol) => [token, symbol]));
    const symbol = (token: string): number => {
      let found = symbolOf.get(token);
      if (found === undefined) symbolOf.set(token, (found = this.tokens.push(token) - 1));
      return found;
    };
    this.#pairs = new PairTable(
      merges.map(([left, right]) => [symbol(left), symbol(right), symbol(left + right)] as const),
    );
    this.merged = this.#pairs.merged;
    this.lengths = this.tokens.map((token) => token.length);
  }

  rank(a: number, b: number): number {
    return this.#pairs.rank(a, b);
  }
}
