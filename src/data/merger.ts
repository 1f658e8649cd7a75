/**
 * Applies merges to one word: always the lowest rank, and of equal ones the leftmost. Near-linear in time; in memory at most
 * 4 bytes per place of the word for the queue, however long the word is.
 */

/** The merges of a tokenizer as numbers. */
export interface Merges {
  /** -1 when the two are not merged. */
  rank(a: number, b: number): number;
  /** The symbol that a merge makes, by rank. */
  readonly merged: Int32Array;
}

/** A word as symbols, from place 1 on, a border before and behind it. */
export interface Row {
  /** At the place where a symbol begins, the symbol; elsewhere less than 0. */
  readonly symbols: Int32Array;
  /** Where the symbol after the one at `i` begins; there is none when what is there is below 0. */
  next(i: number): number;
  /** Where the symbol before the one at `i` begins; -1: there is none. */
  previous(i: number): number;
  /** Joins the symbol at `i` and the next one. */
  join(i: number, joined: number): void;
}

/** A long word's ranks are taken in groups with about this share of its places, so that the queue stays small. */
const QUEUED_SHARE = 1 / 6;
/** Keys that there is always room for in the queue. */
const LEAST_QUEUE = 4096;
/** A rank and a place as one number that sorts by rank, then place. */
const MOST_PLACES = 2 ** 31;

/** Between words. */
const NO_ROW: Row = {
  symbols: new Int32Array(0),
  next: () => 0,
  previous: () => -1,
  join: () => undefined,
};

export class Merger {
  readonly #table: Merges;
  #row = NO_ROW;
  #end = 0;
  #queue = new Float64Array(LEAST_QUEUE);
  #queued = 0;
  /** Ranks below this are in the queue, all others wait for a later group. */
  #limit = Infinity;

  /** @param short places of a word up to which all of its pairs are queued at once */
  constructor(
    table: Merges,
    readonly short = 4096,
  ) {
    this.#table = table;
  }

  /**
   * Merges the word in the row.
   * @param end the place behind the word
   * @param tick called for every place looked at; may throw
   */
  merge(row: Row, end: number, tick: () => void): void {
    this.#row = row;
    this.#end = end;
    this.#queued = 0;
    try {
      if (end - 1 <= this.short) {
        this.#limit = Infinity;
        this.#collect(0, tick);
        this.#drain(Infinity, tick);
      } else this.#mergeInGroups(tick);
    } finally {
      // A long word's memory is freed with it.
      this.#row = NO_ROW;
      if (this.#queue.length > LEAST_QUEUE) this.#queue = new Float64Array(LEAST_QUEUE);
    }
  }

  /** Exact for any merges: while a group is under way, its ranks and all below are queued as they come up. */
  #mergeInGroups(tick: () => void): void {
    const counts = new Uint32Array(this.#table.merged.length);
    for (let from = 0; ;) {
      counts.fill(0, from);
      this.#limit = Infinity;
      this.#eachPair(from, tick, (rank) => counts[rank]++);
      const first = counts.findIndex((count, rank) => rank >= from && count > 0);
      if (first < 0) return;
      const most = this.#end * QUEUED_SHARE;
      let to = first + 1;
      for (let sum = counts[first]; to < counts.length && sum + counts[to] <= most; to++) sum += counts[to];
      this.#limit = to;
      if (counts[first] > most) this.#sweep(first, tick);
      else this.#collect(from, tick);
      this.#drain(Infinity, tick);
      from = to;
    }
  }

  /** Merges one rank that is too frequent to be queued. */
  #sweep(rank: number, tick: () => void): void {
    const { symbols } = this.#row;
    for (let i = 1; i < this.#end;) {
      tick();
      this.#drain(rank * MOST_PLACES + i, tick);
      // A lower rank that came up may have taken the symbol here.
      if (symbols[i] < 0) i++;
      else {
        if (this.#rankAt(i) === rank) this.#merge(i, rank);
        i = this.#row.next(i);
      }
    }
  }

  #collect(from: number, tick: () => void): void {
    this.#eachPair(from, tick, (rank, i) => this.#push(rank * MOST_PLACES + i));
  }

  /** Pairs with ranks from `from` to the limit. */
  #eachPair(from: number, tick: () => void, visit: (rank: number, i: number) => void): void {
    const limit = this.#limit;
    for (let i = 1; i < this.#end; i = this.#row.next(i)) {
      tick();
      const rank = this.#rankAt(i);
      if (rank >= from && rank < limit) visit(rank, i);
    }
  }

  /** -1: not merged, or the last symbol of the word. */
  #rankAt(i: number): number {
    const { symbols } = this.#row;
    const after = symbols[this.#row.next(i)];
    return after < 0 ? -1 : this.#table.rank(symbols[i], after);
  }

  #merge(i: number, rank: number): void {
    this.#row.join(i, this.#table.merged[rank]);
    const before = this.#row.previous(i);
    if (before >= 0) this.#offer(before);
    this.#offer(i);
  }

  #offer(i: number): void {
    const rank = this.#rankAt(i);
    if (rank >= 0 && rank < this.#limit) this.#push(rank * MOST_PLACES + i);
  }

  /** Merges what is queued before the key. */
  #drain(before: number, tick: () => void): void {
    while (this.#queued > 0 && this.#queue[0] < before) {
      tick();
      const key = this.#pop();
      const rank = Math.floor(key / MOST_PLACES);
      const i = key - rank * MOST_PLACES;
      // Another merge may have taken one of the two.
      if (this.#row.symbols[i] >= 0 && this.#rankAt(i) === rank) this.#merge(i, rank);
    }
  }

  #push(key: number): void {
    if (this.#queued === this.#queue.length) {
      const longer = new Float64Array(1.5 * this.#queued);
      longer.set(this.#queue);
      this.#queue = longer;
    }
    const queue = this.#queue;
    let i = this.#queued++;
    for (let parent = (i - 1) >> 1; i > 0 && key < queue[parent]; parent = (i - 1) >> 1) {
      queue[i] = queue[parent];
      i = parent;
    }
    queue[i] = key;
  }

  #pop(): number {
    const queue = this.#queue;
    const top = queue[0];
    const key = queue[--this.#queued];
    let i = 0;
    for (let child = 1; child < this.#queued; child = 2 * i + 1) {
      if (child + 1 < this.#queued && queue[child + 1] < queue[child]) child++;
      if (queue[child] >= key) break;
      queue[i] = queue[child];
      i = child;
    }
    queue[i] = key;
    return top;
  }
}
