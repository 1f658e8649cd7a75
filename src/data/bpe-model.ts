/** What a byte-level byte-pair encoding is: its bytes, its merges, its special token. */

export const END_OF_TEXT = "<|endoftext|>";
/** The 256 bytes and end of text. */
export const SMALLEST_VOCABULARY = 257;

export interface BpeModel {
  /** Token → id. The 256 bytes first, then one token per merge, the end-of-text token last. */
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
}

/** GPT-2's printable character for each byte. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
})();
