import type { Tokenizer } from "../data/tokenizer.js";

/** Text of tokens as they come. */
export interface TextStream {
  add(id: number): void;
  /** Hands out what is left. @returns all of the new text */
  end(): string;
}

const INCOMPLETE = "\ufffd";

/**
 * Turns tokens into pieces of text, none of which cuts a character: a character may need several tokens, and its bytes are
 * held back until they are complete (or more text follows: then they are no character). The new tokens are decoded behind the
 * prompt's, because some tokenizers treat the start of a text differently.
 */
export function textStream(
  tokenizer: Pick<Tokenizer, "decode">,
  prompt: readonly number[],
  onText?: (text: string) => void,
): TextStream {
  const ids = [...prompt];
  const skip = tokenizer.decode(ids).length;
  let written = "";
  const emit = (text: string): void => {
    if (text.length <= written.length) return;
    onText?.(text.slice(written.length));
    written = text;
  };
  return {
    add(id) {
      ids.push(id);
      const text = tokenizer.decode(ids).slice(skip);
      if (!text.endsWith(INCOMPLETE)) emit(text);
    },
    end() {
      emit(tokenizer.decode(ids).slice(skip));
      return written;
    },
  };
}
