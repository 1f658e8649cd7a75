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

/** Σ of n words of 32 bits, modulo 2³², of eight cache lines at a time: reads them about as fast as memory gives them. */
export function sumWords(x: usize, n: u32): u32 {
  let a = i32x4.splat(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  let i: u32 = 0;
  for (; i + 128 <= n; i += 128, x += 512) {
    // Each line's first part first: the sooner all eight are on their way.
    a = i32x4.add(a, v128.load(x));
    b = i32x4.add(b, v128.load(x, 64));
    c = i32x4.add(c, v128.load(x, 128));
    d = i32x4.add(d, v128.load(x, 192));
    e = i32x4.add(e, v128.load(x, 256));
    f = i32x4.add(f, v128.load(x, 320));
    g = i32x4.add(g, v128.load(x, 384));
    h = i32x4.add(h, v128.load(x, 448));
    a = i32x4.add(a, v128.load(x, 16));
    b = i32x4.add(b, v128.load(x, 80));
    c = i32x4.add(c, v128.load(x, 144));
    d = i32x4.add(d, v128.load(x, 208));
    e = i32x4.add(e, v128.load(x, 272));
    f = i32x4.add(f, v128.load(x, 336));
    g = i32x4.add(g, v128.load(x, 400));
    h = i32x4.add(h, v128.load(x, 464));
    a = i32x4.add(a, v128.load(x, 32));
    b = i32x4.add(b, v128.load(x, 96));
    c = i32x4.add(c, v128.load(x, 160));
    d = i32x4.add(d, v128.load(x, 224));
    e = i32x4.add(e, v128.load(x, 288));
    f = i32x4.add(f, v128.load(x, 352));
    g = i32x4.add(g, v128.load(x, 416));
    h = i32x4.add(h, v128.load(x, 480));
    a = i32x4.add(a, v128.load(x, 48));
    b = i32x4.add(b, v128.load(x, 112));
    c = i32x4.add(c, v128.load(x, 176));
    d = i32x4.add(d, v128.load(x, 240));
    e = i32x4.add(e, v128.load(x, 304));
    f = i32x4.add(f, v128.load(x, 368));
    g = i32x4.add(g, v128.load(x, 432));
    h = i32x4.add(h, v128.load(x, 496));
  }
  a = i32x4.add(i32x4.add(i32x4.add(a, b), i32x4.add(c, d)), i32x4.add(i32x4.add(e, f), i32x4.add(g, h)));
  let sum = i32x4.extract_lane(a, 0) + i32x4.extract_lane(a, 1) + i32x4.extract_lane(a, 2) + i32x4.extract_lane(a, 3);
  for (; i < n; i++, x += 4) sum += load<i32>(x);
  return sum;
}
