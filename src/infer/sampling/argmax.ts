/** Index of the largest value, of equal ones the first; none of them is NaN. */
export function argmax(values: Float32Array): number {
  let best = 0;
  let largest = values[0];
  for (let i = 1; i < values.length; i++)
    if (values[i] > largest) {
      best = i;
      largest = values[i];
    }
  return best;
}

/** As `argmax`; -1 where any value is not finite. */
export function finiteArgmax(values: Float32Array): number {
  let best = 0;
  let largest = -Infinity;
  // Finite if all values are. Two sums, so that not every addition waits for the one before.
  let [even, odd] = [0, 0];
  const pairs = values.length - (values.length % 2);
  for (let i = 0; i < pairs; i += 2) {
    const a = values[i];
    const b = values[i + 1];
    even += a;
    odd += b;
    if (a > largest) {
      best = i;
      largest = a;
    }
    if (b > largest) {
      best = i + 1;
      largest = b;
    }
  }
  if (pairs < values.length) {
    even += values[pairs];
    if (values[pairs] > largest) best = pairs;
  }
  return Number.isFinite(even + odd) ? best : -1;
}
