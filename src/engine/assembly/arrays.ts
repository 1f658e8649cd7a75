// Arrays moved and summed along axes, for backward kernels.
import { add } from "./routines";

/** out[j, i] = x[i, j] for x [rows, n], in tiles that fit the first cache. */
export function transpose(out: usize, x: usize, rows: u32, n: u32): void {
  const TILE: u32 = 64;
  for (let i0: u32 = 0; i0 < rows; i0 += TILE) {
    const i1 = min<u32>(rows, i0 + TILE);
    for (let j0: u32 = 0; j0 < n; j0 += TILE) {
      const j1 = min<u32>(n, j0 + TILE);
      let j = j0;
      for (; j + 4 <= j1; j += 4) {
        let i = i0;
        for (; i + 4 <= i1; i += 4) transposeFour(out + ((<usize>j * rows + i) << 2), x + ((<usize>i * n + j) << 2), <usize>rows << 2, <usize>n << 2);
        for (; i < i1; i++)
          for (let jj = j; jj < j + 4; jj++) store<f32>(out + ((<usize>jj * rows + i) << 2), load<f32>(x + ((<usize>i * n + jj) << 2)));
      }
      for (; j < j1; j++)
        for (let i = i0; i < i1; i++) store<f32>(out + ((<usize>j * rows + i) << 2), load<f32>(x + ((<usize>i * n + j) << 2)));
    }
  }
}

// @ts-ignore: decorator
@inline
function transposeFour(out: usize, x: usize, outStride: usize, stride: usize): void {
  const a = v128.load(x), b = v128.load(x + stride), d = v128.load(x + 2 * stride), e = v128.load(x + 3 * stride);
  const ab0 = v128.shuffle<f32>(a, b, 0, 4, 1, 5), ab1 = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  const de0 = v128.shuffle<f32>(d, e, 0, 4, 1, 5), de1 = v128.shuffle<f32>(d, e, 2, 6, 3, 7);
  v128.store(out, v128.shuffle<f32>(ab0, de0, 0, 1, 4, 5));
  v128.store(out + outStride, v128.shuffle<f32>(ab0, de0, 2, 3, 6, 7));
  v128.store(out + 2 * outStride, v128.shuffle<f32>(ab1, de1, 0, 1, 4, 5));
  v128.store(out + 3 * outStride, v128.shuffle<f32>(ab1, de1, 2, 3, 6, 7));
}

/** out[n] = Σ over rows of x, rows in order. */
export function columnSums(out: usize, x: usize, rows: u32, n: u32): void {
  const bytes = <usize>n << 2;
  memory.fill(out, 0, bytes);
  for (let t: u32 = 0; t < rows; t++, x += bytes) add(out, out, x, n);
}

/**
 * Adds each of `count` arrays of `length` elements to the beginning of one of `size` elements; `first`: out is
 * overwritten instead, with zeros behind.
 */
export function addPrefixes(out: usize, x: usize, count: u32, size: u32, length: u32, first: u32): void {
  for (let b: u32 = 0; b < count; b++, out += <usize>size << 2, x += <usize>length << 2) {
    if (first) {
      memory.copy(out, x, <usize>length << 2);
      memory.fill(out + (<usize>length << 2), 0, <usize>(size - length) << 2);
    } else add(out, out, x, length);
  }
}
