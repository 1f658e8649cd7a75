import type { Tokenizer } from "../data/tokenizer.js";

/** Text of tokens as they come. */
export interface TextStream {
  add(id: number): void;
  /** Hands out what is left. @returns all of the new text */
  end(): string;
}

/** Stands for bytes that are no character, or not yet: all of a cut character at the end of a text is one of these. */
const INCOMPLETE = "\ufffd";

/**
 * Tokens with text that the next one is decoded behind. As many as a character has bytes at most: fewer could cut one in
 * two, and some tokenizers treat the very start of a text differently.
 */
const CONTEXT = 4;

/**
 * Turns tokens into pieces of text, none of which cuts a character: a character may need several tokens, and its bytes are
 * held back until they are complete (or more text follows: then they are no character). The pieces are those of decoding
 * the prompt and all new tokens each time; only the last few tokens are decoded.
 */
export function textStream(
  tokenizer: Pick<Tokenizer, "decode">,
  prompt: readonly number[],
  onText?: (text: string) => void,
): TextStream {
  const lastTokens = shortener(tokenizer);
  let window = lastTokens(prompt);
  let text = tokenizer.decode(window);
  /** How much of the window's text belongs to the prompt, or has been handed out or put aside. */
  let done = text.length;
  /** Sure not to change, but not to be handed out before a complete character follows. */
  let held = "";
  let written = "";
  const emit = (): void => {
    const piece = held + text.slice(done);
    held = "";
    done = Math.max(done, text.length);
    written += piece;
    if (piece !== "") onText?.(piece);
  };
  return {
    add(id) {
      const longer = [...window, id];
      text = tokenizer.decode(longer);
      if (!text.endsWith(INCOMPLETE)) emit();
      else {
        held += text.slice(done, -1);
        done = Math.max(done, text.length - 1);
      }
      window = lastTokens(longer);
      const { length } = text;
      text = tokenizer.decode(window);
      done -= length - text.length;
    },
    end() {
      emit();
      return written;
    },
  };
}

/**
 * The last tokens with text, and of those without text (ids that no token has) one wherever some stand: they may part
 * bytes that would be a character.
 */
function shortener(tokenizer: Pick<Tokenizer, "decode">): (ids: readonly number[]) => number[] {
  const silent = new Map<number, boolean>();
  const isSilent = (id: number): boolean => {
    let found = silent.get(id);
    // Twice, because a single space may be left out at the start of a text.
    if (found === undefined) silent.set(id, (found = tokenizer.decode([id, id]) === ""));
    return found;
  };
  return (ids) => {
    const last: number[] = [];
    let withText = 0;
    for (let i = ids.length - 1; i >= 0 && withText < CONTEXT; i--) {
      const isRepeated = last.length > 0 && isSilent(ids[i]) && isSilent(last[last.length - 1]);
      if (!isSilent(ids[i])) withText++;
      if (!isRepeated) last.push(ids[i]);
    }
    return last.reverse();
  };
}
