/** Where in a text the text of each of its tokens begins. */

/** What a token leaves behind while it is not sure where its text begins. */
interface Open<T> {
  readonly token: T;
  /** What of the text was not sure before it, and with it. */
  readonly before: string;
  readonly after: string;
}

/** A token whose place in the text is known. */
export interface PlacedToken<T> {
  readonly token: T;
  /** UTF-16 units, and characters (code points), from the start of the text. */
  readonly at: number;
  readonly offset: number;
}

/**
 * Follows a text and its tokens. A token that goes on with a character begins where that character does: it is placed once it is known
 * what the bytes have become.
 */
export class TokenOffsets<T> {
  #open: Open<T>[] = [];
  #at = 0;
  #offset = 0;

  /** @param offset characters before the text */
  constructor(offset = 0) {
    this.#offset = offset;
  }

  /**
   * @param text what has become sure of the text with this token
   * @param pending what is not sure yet
   * @returns the tokens whose place is known now
   */
  add(token: T, text: string, pending: string): PlacedToken<T>[] {
    const before = this.#open.at(-1)?.after ?? "";
    this.#open.push({ token, before, after: pending === "" ? text : pending });
    return pending === "" ? this.end(text) : [];
  }

  /** @param text all that was not sure */
  end(text: string): PlacedToken<T>[] {
    const placed: PlacedToken<T>[] = [];
    let start = text.length;
    for (const { token, before, after } of this.#open.reverse()) {
      // A token that adds nothing to what is not sure belongs to the character that it ends with.
      const isMore = after.length > before.length && after.startsWith(before);
      // None begins behind the one that follows it.
      start = Math.min(start, commonStart(isMore ? before : before.slice(0, -1), text));
      placed.push({
        token,
        at: this.#at + start,
        offset: this.#offset + numCharacters(text.slice(0, start)),
      });
    }
    this.#open = [];
    this.#at += text.length;
    this.#offset += numCharacters(text);
    return placed.reverse();
  }
}

/** Length of what both begin with. */
function commonStart(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

/** Code points. */
export function numCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
