/** The text of one sequence while its tokens come: pieces for whoever reads along, each with its tokens. */
import type { Tokenizer } from "../../data/tokenizer.js";
import type { EndReason } from "../engine.js";
import type { SampledToken } from "../sampling/sampling-parameters.js";
import { type StopStrings, stopStrings } from "./stop-strings.js";
import { type TextStream, textStream } from "./text-stream.js";
import { type PlacedToken, TokenOffsets, numCharacters } from "./token-offsets.js";

/** A token of the text. */
export interface WrittenToken {
  readonly token: SampledToken;
  /**
   * Characters (code points) before its text; one that goes on with a character has the offset at which that character begins. Where its
   * text was cut off, the end of the text.
   */
  readonly offset: number;
}

/** What is new: text without a part of a character, and the tokens whose text begins in it. Either may be empty. */
export interface TextPiece {
  readonly text: string;
  readonly tokens: readonly WrittenToken[];
}

/** How a text ended. */
export interface TextEnd {
  readonly reason: EndReason;
  /** All of it. */
  readonly text: string;
  /** The stop string or the stop token that ended it. */
  readonly stop?: string | number | undefined;
  /** Tokens that are in no piece: the stop token, those of the stop string, and what was written behind it. */
  readonly cut: readonly WrittenToken[];
}

export interface WrittenTextOptions {
  readonly stop?: readonly string[] | undefined;
  /** The stop string is left at the end of the text. */
  readonly includeStop?: boolean | undefined;
  /** Tokens that end the text and are no part of it. */
  readonly stopTokens?: readonly number[] | undefined;
  /** Characters before the new text: of an echoed prompt. */
  readonly offset?: number | undefined;
  readonly onPiece?: ((piece: TextPiece) => void) | undefined;
}

export class WrittenText {
  readonly #options: WrittenTextOptions;
  readonly #stream: TextStream;
  readonly #stops: StopStrings;
  readonly #offsets: TokenOffsets<SampledToken>;
  /** What the stream has just handed out. */
  #fresh = "";
  /** Tokens whose text may not be handed out yet. */
  #waiting: PlacedToken<SampledToken>[] = [];
  /** Text that has been put to the stop strings, in UTF-16 units, and text that they have let through. */
  #read = 0;
  #text = "";
  #cut: SampledToken[] = [];
  #stopToken: number | undefined;

  /** @throws InputError when a stop string is empty, or has half of a surrogate pair */
  constructor(
    tokenizer: Pick<Tokenizer, "decode" | "isByte">,
    prompt: readonly number[],
    options: WrittenTextOptions = {},
  ) {
    this.#options = options;
    this.#stream = textStream(tokenizer, prompt, (text) => (this.#fresh += text));
    this.#stops = stopStrings(options.stop ?? [], options.includeStop);
    this.#offsets = new TokenOffsets(options.offset);
  }

  /** @returns "stop" when the text ends with this token; those behind it are no part of the text */
  add(token: SampledToken): "stop" | undefined {
    if (this.#isOver) this.#cut.push(token);
    else if (this.#options.stopTokens?.includes(token.id)) {
      this.#stopToken = token.id;
      this.#cut.push(token);
    } else {
      this.#stream.add(token.id);
      const text = this.#takeFresh();
      this.#waiting.push(...this.#offsets.add(token, text, this.#stream.pending()));
      this.#handOut(text, false);
    }
    return this.#isOver ? "stop" : undefined;
  }

  /** Hands out what was held back: the bytes of a character that was not finished, and the beginning of a stop string. */
  end(reason: EndReason): TextEnd {
    this.#stream.end();
    const text = this.#takeFresh();
    this.#waiting.push(...this.#offsets.end(text));
    this.#handOut(text, true);
    const { found } = this.#stops;
    const stop = found ?? this.#stopToken;
    const offset = (this.#options.offset ?? 0) + numCharacters(this.#text);
    return {
      reason: stop === undefined ? reason : "stop",
      text: this.#text,
      stop,
      cut: [...this.#waiting.map(({ token }) => token), ...this.#cut].map((token) => ({ token, offset })),
    };
  }

  get #isOver(): boolean {
    return this.#stops.found !== undefined || this.#stopToken !== undefined;
  }

  #takeFresh(): string {
    const fresh = this.#fresh;
    this.#fresh = "";
    return fresh;
  }

  #handOut(fresh: string, isLast: boolean): void {
    this.#read += fresh.length;
    const text = this.#stops.add(fresh) + (isLast ? this.#stops.end() : "");
    this.#text += text;
    const end = this.#text.length;
    const isAll = end === this.#read;
    const next = this.#waiting.findIndex(({ at }) => at > end || (at === end && !isAll));
    const ready = this.#waiting.splice(0, next < 0 ? this.#waiting.length : next);
    if (text === "" && ready.length === 0) return;
    this.#options.onPiece?.({ text, tokens: ready.map(({ token, offset }) => ({ token, offset })) });
  }
}

/** The text of tokens that are there, and where the text of each begins, in characters: of a prompt that is echoed. */
export function alignedText(
  tokenizer: Pick<Tokenizer, "decode" | "isByte">,
  ids: readonly number[],
): { readonly text: string; readonly offsets: readonly number[] } {
  const offsets: number[] = [];
  const onPiece = ({ tokens }: TextPiece): void => void offsets.push(...tokens.map(({ offset }) => offset));
  const written = new WrittenText(tokenizer, [], { onPiece });
  for (const id of ids) written.add({ id });
  const { text } = written.end("length");
  return { text, offsets };
}
