/** Ids of words, one after the other, handed out some at a time. */
import type { Model } from "./model.js";

/** Words whose ids are remembered: the frequent ones are among the first. */
const MOST_REMEMBERED = 1 << 16;
const LONGEST_REMEMBERED = 64;
/** Ids handed out at a time. */
const PIECE = 1 << 14;
/** Characters, or places looked at within a word, from one call of `onProgress` to the next: a few tens of milliseconds. */
const PROGRESS_INTERVAL = 1 << 17;

export class WordIds {
  readonly #known = new Map<string, readonly number[]>();

  /** @param perWord what is done to a word before the model gets it */
  constructor(
    readonly model: Model,
    readonly perWord: (word: string) => string,
  ) {}

  of(word: string, tick: () => void): readonly number[] {
    const known = this.#known.get(word);
    if (known !== undefined) return known;
    const ids = this.model.encode(this.perWord(word), tick);
    if (word.length <= LONGEST_REMEMBERED && this.#known.size < MOST_REMEMBERED) this.#known.set(word, ids);
    return ids;
  }

  /**
   * @param words of the text, and ids that stand in it as they are
   * @param length of the text in characters, about
   */
  *pieces(
    words: Iterable<string | number>,
    length: number,
    onProgress?: (share: number) => void,
  ): Generator<Int32Array> {
    let piece = new Int32Array(PIECE);
    let [filled, done, ticks, reported] = [0, 0, 0, 0];
    const report = (): void => onProgress?.(Math.min(1, done / length));
    const tick = (): void => {
      if (++ticks % PROGRESS_INTERVAL === 0) report();
    };
    for (const word of words) {
      const ids = typeof word === "number" ? [word] : this.of(word, tick);
      for (const id of ids) {
        piece[filled++] = id;
        if (filled < PIECE) continue;
        yield piece;
        piece = new Int32Array(PIECE);
        filled = 0;
      }
      done += typeof word === "number" ? 1 : word.length;
      if (done - reported < PROGRESS_INTERVAL) continue;
      reported = done;
      report();
    }
    if (filled > 0) yield piece.subarray(0, filled);
  }
}
