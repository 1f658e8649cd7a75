/** Applies merges to the bytes of a word: 4 bytes of memory per byte of the word, and as much again at most. */
import type { MergeTable } from "./merge-table.js";
import { Merger } from "./merger.js";
import { BORDER, SymbolRow, writeBytes } from "./symbol-row.js";

export class WordMerger {
  readonly #table: MergeTable;
  readonly #merger: Merger;
  readonly #row: SymbolRow;

  /** @param short bytes of a word up to which all of its pairs are queued at once */
  constructor(
    table: MergeTable,
    readonly short = 4096,
  ) {
    this.#table = table;
    this.#merger = new Merger(table, short);
    this.#row = new SymbolRow(new Int32Array(short + 2), table.lengths);
  }

  /**
   * Symbols of the word, from left to right.
   * @param tick called for every place looked at; may throw
   */
  *symbols(word: string, tick: () => void): Generator<number> {
    const bytes = word.length * 3 <= this.short ? this.short : Buffer.byteLength(word);
    // A long word has memory of its own, which is freed with it.
    const row =
      bytes <= this.short ? this.#row : new SymbolRow(new Int32Array(bytes + 2), this.#table.lengths);
    row.symbols[0] = BORDER;
    const end = 1 + writeBytes(word, row.symbols, 1);
    row.symbols[end] = BORDER;
    this.#merger.merge(row, end, tick);
    for (let i = 1; i < end; i = row.next(i)) yield row.symbols[i];
  }
}
