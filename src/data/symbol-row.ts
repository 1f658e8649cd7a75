/** Stands before, between and after words: never the start of a symbol, never its end. */
export const BORDER = -(2 ** 31);

/**
 * Words as symbols that neighbours can be joined to, in one number per byte. A symbol lies where its bytes lie: its first place
 * holds its id, its last place (of several) the complement of its id, so that both neighbours are found without links.
 */
export class SymbolRow {
  /**
   * @param symbols bytes of the words, with a border before, between and after them
   * @param lengths bytes of each symbol, by id; 1 for the first 256
   */
  constructor(
    readonly symbols: Int32Array,
    readonly lengths: readonly number[],
  ) {}

  /** Where the symbol after the one at `i` begins; there is none when what is there is below 0. */
  next(i: number): number {
    return i + this.lengths[this.symbols[i]];
  }

  /** Where the symbol before the one at `i` begins; -1: there is none. */
  previous(i: number): number {
    const last = this.symbols[i - 1];
    if (last >= 0) return i - 1;
    return last === BORDER ? -1 : i - this.lengths[~last];
  }

  /** Joins the symbol at `i` and the next one. */
  join(i: number, joined: number): void {
    this.symbols[this.next(i)] = -1;
    this.symbols[i] = joined;
    this.symbols[i + this.lengths[joined] - 1] = ~joined;
  }
}

const SLICE = 8192;
const encoder = new TextEncoder();
const buffer = new Uint8Array(3 * SLICE);

/** Writes the UTF-8 bytes of a text to `symbols` from `at` on. @returns their number */
export function writeBytes(text: string, symbols: Int32Array, at: number): number {
  let to = at;
  for (let from = 0; from < text.length;) {
    const end = cutAt(text, from + SLICE);
    const { written } = encoder.encodeInto(text.slice(from, end), buffer);
    for (let i = 0; i < written; i++) symbols[to++] = buffer[i];
    from = end;
  }
  return to - at;
}

/** `index`, or the one before it where it would cut a character in two; at most the length of the text. */
export function cutAt(text: string, index: number): number {
  if (index >= text.length) return text.length;
  const isInside = /^[\ud800-\udbff][\udc00-\udfff]$/.test(text.slice(index - 1, index + 1));
  return isInside ? index - 1 : index;
}
