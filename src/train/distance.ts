/** How far numbers are from those of another implementation. */

export function norm2(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
}

/** |a − b| / |b|; when b is zero, |a|. */
export function relative(a: number, b: number): number {
  return b === 0 ? Math.abs(a) : Math.abs(a - b) / Math.abs(b);
}

/** ‖a − b‖ / ‖b‖; when b is zero, ‖a‖. */
export function distance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
}

/** max |a − b| / max |b|; when b is zero, max |a|. */
export function largestDistance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < b.length; i++) {
    // Not Math.max alone: a NaN must stay one.
    const d = Math.abs(a[i] - b[i]);
    if (!(d <= difference)) difference = d;
    largest = Math.max(largest, Math.abs(b[i]));
  }
  return largest === 0 ? difference : difference / largest;
}
