export interface Tokenizer {
  readonly vocabSize: number;
  /** Id of the token between documents. */
  readonly endOfText: number;
  /** Ids that a text begins with where special tokens are asked for, such as Llama's "begin of text"; most often none. */
  readonly beginning: readonly number[];
  /** Ids that it ends with then. */
  readonly ending: readonly number[];
  /** Without special tokens other than those whose names stand in the text. Half of a surrogate pair is U+FFFD. */
  encode(text: string): number[];
  /**
   * The ids of `encode`, some at a time, so that those of a long text need not all be in memory.
   * @param onProgress called often; what it throws ends the work
   */
  encodePieces(text: string, onProgress?: (share: number) => void): Iterable<ArrayLike<number>>;
  /** Special tokens by their names; ids that no token has are left out. */
  decode(ids: Iterable<number>): string;
  /** What the token stands for within a text, in UTF-8: of a part of a character its bytes. None for an id that no token has. */
  tokenBytes(id: number): readonly number[];
  /** Whether the token is a byte whose text hangs on all bytes in a row with it. */
  isByte(id: number): boolean;
}

/** Ids of a text that a model is to go on with: `beginning` is put before it unless it is there. */
export function encodePrompt(tokenizer: Tokenizer, prompt: string): number[] {
  const ids = tokenizer.encode(prompt);
  return tokenizer.beginning.every((id, i) => ids[i] === id) ? ids : [...tokenizer.beginning, ...ids];
}

/** Ids of a text with the special tokens that belong around it. */
export function encodeWithSpecials(tokenizer: Tokenizer, text: string): number[] {
  return [...tokenizer.beginning, ...tokenizer.encode(text), ...tokenizer.ending];
}
