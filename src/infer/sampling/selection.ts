/** Which values are the largest, without sorting: the bits of the numbers are looked at from the top, some at a time. */

/** Values above `value` are chosen, and the first `ties` of those that equal it. */
export interface Cut {
  readonly value: number;
  readonly ties: number;
}

/** Buffers of `findCut`, for rows of up to `length` values. */
export interface SelectionBuffers {
  readonly open: Int32Array;
  readonly sums: Float64Array;
}

/** Bits that are looked at together: three times for all 32. */
const DIGIT = 11;

export function selectionBuffers(length: number): SelectionBuffers {
  return { open: new Int32Array(length), sums: new Float64Array(1 << DIGIT) };
}

/**
 * Chooses the fewest largest values whose masses reach a target, of equal values the first: O(count), whatever the values are.
 * @param values none of them NaN
 * @param count only the first so many count, at least one
 * @param masses of each value, none of them negative; undefined: one each
 * @param target above zero; beyond the sum of the masses: all are chosen
 */
export function findCut(
  values: Float32Array,
  count: number,
  masses: Float64Array | undefined,
  target: number,
  { open, sums }: SelectionBuffers,
): Cut {
  const bits = new Int32Array(values.buffer, values.byteOffset, count);
  let left = target;
  let numOpen = count;
  for (let shift = 32; shift > 0;) {
    const width = Math.min(DIGIT, shift);
    shift -= width;
    const [bins, mask, isFirst] = [1 << width, (1 << width) - 1, shift + width === 32];
    sums.fill(0, 0, bins);
    for (let j = 0; j < numOpen; j++) {
      const i = isFirst ? j : open[j];
      sums[(keyOf(bits[i]) >>> shift) & mask] += masses === undefined ? 1 : masses[i];
    }
    // The one in which the target is reached. Where rounding leaves a little of the target beyond all of them: the last.
    let bin = -1;
    for (let lower = bins - 1; lower >= 0 && (bin < 0 || sums[bin] < left); lower--) {
      if (sums[lower] === 0) continue;
      if (bin >= 0) left -= sums[bin];
      bin = lower;
    }
    let kept = 0;
    for (let j = 0; j < numOpen; j++) {
      const i = isFirst ? j : open[j];
      if (((keyOf(bits[i]) >>> shift) & mask) === bin) open[kept++] = i;
    }
    numOpen = kept;
  }
  let ties = 0;
  for (; ties < numOpen && left > 0; ties++) left -= masses === undefined ? 1 : masses[open[ties]];
  return { value: values[open[0]], ties };
}

/**
 * A whole number whose bits, read without sign, are larger for larger numbers, and the same for both zeros. Without a branch: which
 * sign comes next nobody can guess.
 * @param bits of a float
 */
function keyOf(bits: number): number {
  const sign = bits >> 31;
  return (((bits ^ (sign >>> 1)) - sign) | 0) ^ 0x80000000;
}
