/** Text of one sequence as its tokens come, and where a stop string ends it. */
import type { Tokenizer } from "../data/tokenizer.js";
import { textStream } from "../infer/text-stream.js";

export interface SequenceText {
  /**
   * Hears of the next token.
   * @returns the text that is now sure: whole characters, and nothing that may yet be the beginning of a stop string
   */
  add(id: number): string;
  /** No more tokens: what was held back. Nothing once a stop string has been written. */
  end(): string;
  /** The stop string that has been written; it is no part of the text. */
  readonly stop: string | undefined;
  /** Characters (code points) that the tokens so far have given, held back or not: where the next token's text begins. */
  readonly length: number;
}

/**
 * @param tokenizer none: there is no text
 * @param prompt what the tokens stand behind
 * @param stops not empty ones; of several that are written the one that is complete first counts, of those the longest
 */
export function sequenceText(
  tokenizer: Pick<Tokenizer, "decode" | "isByte"> | undefined,
  prompt: readonly number[],
  stops: readonly string[],
): SequenceText {
  const found = stopFinder(stops);
  let piece = "";
  let length = 0;
  const hear = (text: string): void => {
    length += characters(text);
    piece += found.add(text);
  };
  const stream = tokenizer === undefined ? undefined : textStream(tokenizer, prompt, hear);
  const taken = (): string => {
    const text = piece;
    piece = "";
    return text;
  };
  return {
    add(id) {
      if (found.stop === undefined) stream?.add(id);
      return taken();
    },
    end() {
      if (found.stop === undefined) stream?.end();
      piece += found.end();
      return taken();
    },
    get stop() {
      return found.stop;
    },
    get length() {
      return length;
    },
  };
}

/** Code points of a text. */
export function characters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

function stopFinder(stops: readonly string[]) {
  let held = "";
  let stop: string | undefined;
  const first = (): { readonly at: number; readonly text: string } | undefined => {
    const hits = stops.map((text) => ({ at: held.indexOf(text), text })).filter(({ at }) => at >= 0);
    const endOf = ({ at, text }: (typeof hits)[number]): number => at + text.length;
    return hits.sort((a, b) => endOf(a) - endOf(b) || a.at - b.at)[0];
  };
  /** From where on the held text may be the beginning of a stop string. */
  const openFrom = (): number => {
    let from = held.length;
    for (const text of stops)
      for (let at = Math.max(0, held.length - text.length + 1); at < from; at++)
        if (text.startsWith(held.slice(at))) from = at;
    return from;
  };
  return {
    get stop() {
      return stop;
    },
    add(text: string): string {
      if (stop !== undefined) return "";
      held += text;
      const hit = first();
      stop = hit?.text;
      const sure = held.slice(0, hit?.at ?? openFrom());
      held = hit === undefined ? held.slice(sure.length) : "";
      return sure;
    },
    end(): string {
      const rest = held;
      held = "";
      return rest;
    },
  };
}
