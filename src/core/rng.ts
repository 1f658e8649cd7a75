/**
 * Counter-based random numbers (Philox4x32-10; Salmon et al., SC 2011; method 9.6): everything random is a function of
 * (seed, purpose, index), so any rank can make any part of any stream, and runs resume anywhere.
 */
import { fnv1a } from "./hash.js";

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** Four 32-bit numbers. */
type Words = [number, number, number, number];

/** High 32 bits of a 32×32-bit product, without BigInt: 16-bit halves. */
function mulHigh(a: number, b: number): number {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const low = al * bl;
  const m1 = ah * bl + (low >>> 16);
  const m2 = al * bh + (m1 & 0xffff);
  return (ah * bh + Math.floor(m1 / 65536) + Math.floor(m2 / 65536)) >>> 0;
}

/** Four random words for a 128-bit counter and a 64-bit key. */
export function philox4x32(counter: Readonly<Words>, key: readonly [number, number]): Words {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const h0 = mulHigh(M0, c0);
    const l0 = Math.imul(M0, c0) >>> 0;
    const h1 = mulHigh(M1, c2);
    const l1 = Math.imul(M1, c2) >>> 0;
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

export interface Random {
  /** 32 random bits. */
  u32(index: number): number;
  /** In [0, 1), with 32 bits. */
  uniform(index: number): number;
  normal(index: number): number;
  /** out[i] = std · normal(start + i): any shard of an array gets the numbers it would get in the whole. */
  fillNormal(out: Float32Array, start: number, std: number): void;
  /** A permutation of [0, n), different for every epoch; O(1) per element. */
  permute(index: number, n: number, epoch: number): number;
}

export function philox(seed: number, purpose: string): Random {
  const key: [number, number] = [
    (seed ^ fnv1a(purpose)) >>> 0,
    (Math.floor(seed / 2 ** 32) ^ fnv1a(purpose, 0x9747b28c)) >>> 0,
  ];
  const wordsAt = (counter: number): Words =>
    philox4x32([counter >>> 0, Math.floor(counter / 2 ** 32) >>> 0, 0, 0], key);
  const u32 = (index: number): number => wordsAt(Math.floor(index / 4))[index % 4];
  const normalsOf = (counter: number): Words => {
    const [a, b, c, d] = wordsAt(counter);
    const [x, y] = boxMuller(a, b);
    const [z, w] = boxMuller(c, d);
    return [x, y, z, w];
  };
  return {
    u32,
    uniform: (index) => u32(index) / 2 ** 32,
    normal: (index) => normalsOf(Math.floor(index / 4))[index % 4],
    fillNormal(out, start, std) {
      let counter = -1;
      let values: Words = [0, 0, 0, 0];
      for (let i = 0; i < out.length; i++) {
        const wanted = Math.floor((start + i) / 4);
        if (wanted !== counter) values = normalsOf((counter = wanted));
        out[i] = std * values[(start + i) % 4];
      }
    },
    permute(index, n, epoch) {
      // A Feistel network on the smallest even number of bits that holds n; walks until it lands inside.
      const half = Math.max(1, Math.ceil(Math.log2(Math.max(2, n)) / 2));
      const size = 2 ** half;
      let value = index;
      do {
        let left = Math.floor(value / size);
        let right = value % size;
        for (let round = 0; round < 4; round++) {
          const mixed = philox4x32([right, round, epoch >>> 0, 1], key)[0] % size;
          [left, right] = [right, (left ^ mixed) >>> 0];
        }
        value = left * size + right;
      } while (value >= n);
      return value;
    },
  };
}

/** Two normals from two words; the first is kept off zero. */
function boxMuller(a: number, b: number): [number, number] {
  const radius = Math.sqrt(-2 * Math.log((a + 1) / 4294967297));
  const angle = (2 * Math.PI * b) / 2 ** 32;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}
