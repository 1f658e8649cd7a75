// Arrays moved and summed along axes, for backward kernels.
import { add } from "./routines";

const TILE: u32 = 16;
/** One tile. Memory is its thread's own as far as operands of `transpose` are: kernels' tensors. */
const tile: usize = memory.data(1024, 64);

/**
 * out[j, i] = x[i, j] for x [rows, n], in tiles of a cache line's width: every line is read once and written once. Rows that are a
 * power of two apart share their places in the caches, which would not keep a line for a second turn.
 */
export function transpose(out: usize, x: usize, rows: u32, n: u32): void {
  for (let j: u32 = 0; j < n; j += TILE)
    for (let i: u32 = 0; i < rows; i += TILE) {
      const from = x + ((<usize>i * n + j) << 2), to = out + ((<usize>j * rows + i) << 2);
      if (i + TILE <= rows && j + TILE <= n) transposeTile(to, from, <usize>rows << 2, <usize>n << 2);
      else
        for (let jj: u32 = 0; jj < min<u32>(TILE, n - j); jj++)
          for (let ii: u32 = 0; ii < min<u32>(TILE, rows - i); ii++)
            store<f32>(to + ((<usize>jj * rows + ii) << 2), load<f32>(from + ((<usize>ii * n + jj) << 2)));
    }
}

// @ts-ignore: decorator
@inline
function transposeTile(out: usize, x: usize, outStride: usize, stride: usize): void {
  for (let row: usize = 0; row < 64; row += 16, x += stride << 2) {
    transposeFour(tile + row, x, 64, stride);
    transposeFour(tile + 256 + row, x + 16, 64, stride);
    transposeFour(tile + 512 + row, x + 32, 64, stride);
    transposeFour(tile + 768 + row, x + 48, 64, stride);
  }
  for (let line = tile; line < tile + 1024; line += 64, out += outStride) {
    const a = v128.load(line), b = v128.load(line, 16), d = v128.load(line, 32), e = v128.load(line, 48);
    v128.store(out, a);
    v128.store(out, b, 16);
    v128.store(out, d, 32);
    v128.store(out, e, 48);
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
