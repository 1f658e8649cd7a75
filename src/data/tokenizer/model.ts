/** What turns words into ids. */
export interface Model {
  /** @param tick called often within a long word; may throw */
  encode(word: string, tick: () => void): readonly number[];
}
