/** Slots without gaps: decode runs over the first n of them. */

/** From one slot to another that is empty. */
export interface SlotMove {
  readonly from: number;
  readonly to: number;
}

/**
 * Fills gaps from the end, which moves as few occupants as can be.
 * @param slots occupants; undefined where there is none any more
 * @returns occupants in the order of their new slots, and the moves that lead there, one after the other
 */
export function closeGaps<T>(slots: readonly (T | undefined)[]): { occupants: T[]; moves: SlotMove[] } {
  const occupants: T[] = [];
  const moves: SlotMove[] = [];
  let end = slots.length;
  for (let slot = 0; slot < end; slot++) {
    let from = slot;
    if (slots[slot] === undefined) {
      while (end > slot && slots[end - 1] === undefined) end--;
      if (end === slot) break;
      from = --end;
      moves.push({ from, to: slot });
    }
    occupants.push(slots[from]!);
  }
  return { occupants, moves };
}
