import type { Tokenizer } from "../../data/tokenizer.js";

/** Text of tokens as they come. */
export interface TextStream {
  add(id: number): void;
  /** What would come if the text ended here: where the last token ends within a character, U+FFFD in its place. */
  pending(): string;
  /** Hands out what is left. @returns all of the new text */
  end(): string;
}

/** Stands for bytes that are no character, or not yet. */
const INCOMPLETE = "\ufffd";

/**
 * Tokens with text that the next one is decoded behind. As many as a character has bytes at most: fewer could cut one in
 * two, and some tokenizers treat the very start of a text differently.
 */
const CONTEXT = 4;

type Decoding = Pick<Tokenizer, "decode" | "isByte">;

/**
 * Turns tokens into pieces of text, none of which cuts a character: a character may need several tokens, and its bytes are
 * held back until they are complete (or more text follows: then they are no character). The pieces are those of decoding
 * the prompt and all new tokens each time; only the last few tokens are decoded. Where a decoder takes back what it has
 * given (byte fallback does with all bytes in a row when one of them is wrong), what has been handed out stays.
 */
export function textStream(
  tokenizer: Decoding,
  prompt: readonly number[],
  onText?: (text: string) => void,
): TextStream {
  const isSilent = silence(tokenizer);
  /** The last tokens that matter. */
  let context: readonly number[] = [];
  let text = "";
  /** How much of the context's text belongs to the prompt, or has been handed out or put aside. */
  let done = 0;
  /** Sure not to change, but not to be handed out before a complete character follows. */
  let held = "";
  let written = "";
  const shorten = (ids: readonly number[]): void => {
    const { length } = text;
    context = lastTokens(ids, tokenizer, isSilent);
    text = tokenizer.decode(context);
    done -= length - text.length;
  };
  const emit = (): void => {
    const piece = held + text.slice(done);
    held = "";
    done = Math.max(done, text.length);
    written += piece;
    if (piece !== "") onText?.(piece);
  };
  shorten(prompt);
  done = text.length;
  return {
    add(id) {
      const longer = [...context, id];
      text = tokenizer.decode(longer);
      const last = longer.findLast((other) => !isSilent(other));
      if (!text.endsWith(INCOMPLETE)) emit();
      else if (last === undefined || !tokenizer.isByte(last)) {
        // All of a cut character is one U+FFFD, what precedes it is no part of it.
        held += text.slice(done, -1);
        done = Math.max(done, text.length - 1);
      }
      shorten(longer);
    },
    pending: () => held + text.slice(done),
    end() {
      emit();
      return written;
    },
  };
}

/** Tells ids without text. */
function silence(tokenizer: Decoding): (id: number) => boolean {
  const silent = new Map<number, boolean>();
  return (id) => {
    let found = silent.get(id);
    // Twice, because a single space may be left out at the start of a text.
    if (found === undefined) silent.set(id, (found = tokenizer.decode([id, id]) === ""));
    return found;
  };
}

/**
 * The last tokens with text, and of those without text (ids that no token has) one wherever some stand: they may part
 * bytes that would be a character. Bytes in a row whose text hangs on each other are kept together.
 */
function lastTokens(
  ids: readonly number[],
  tokenizer: Decoding,
  isSilent: (id: number) => boolean,
): readonly number[] {
  const last: number[] = [];
  let withText = 0;
  const isOpen = (id: number): boolean => isSilent(id) || tokenizer.isByte(id);
  for (let i = ids.length - 1; i >= 0 && (withText < CONTEXT || isOpen(ids[i + 1])); i--) {
    const isRepeated = last.length > 0 && isSilent(ids[i]) && isSilent(last[last.length - 1]);
    if (!isSilent(ids[i])) withText++;
    if (!isRepeated) last.push(ids[i]);
  }
  return last.reverse();
}
