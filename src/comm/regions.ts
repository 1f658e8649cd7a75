/** Usual shapes of the regions of an exchange. */
import { addressOf, copyBytes } from "../core/address.js";
import { type ExchangeRequest, type Regions, isPool } from "./communicator.js";

/** The same `bytes` to every peer. */
export function toEach(buffer: Uint8Array, size: number, bytes: number): Regions {
  return { buffer, offsets: new Array<number>(size).fill(0), bytes: new Array<number>(size).fill(bytes) };
}

/** `bytes` from every peer, one after another. */
export function fromEach(buffer: Uint8Array, size: number, bytes: number): Regions {
  return {
    buffer,
    offsets: Array.from({ length: size }, (_, r) => r * bytes),
    bytes: new Array<number>(size).fill(bytes),
  };
}

export interface Slice {
  readonly start: number;
  readonly end: number;
}

/** The part of `length` elements that a rank owns when they are dealt evenly: of gradients, and of ZeRO-1's state. */
export function sliceOf(length: number, rank: number, ranks: number): Slice {
  return { start: Math.floor((length * rank) / ranks), end: Math.floor((length * (rank + 1)) / ranks) };
}

/** The `piece`-th of `pieces` equal parts of every slice. */
export interface Piece {
  readonly piece: number;
  readonly pieces: number;
}

const WHOLE: Piece = { piece: 0, pieces: 1 };

/** A piece of the slice that a rank owns of `length` elements. */
export function pieceOf(length: number, rank: number, ranks: number, { piece, pieces }: Piece): Slice {
  const { start, end } = sliceOf(length, rank, ranks);
  const part = sliceOf(end - start, piece, pieces);
  return { start: start + part.start, end: start + part.end };
}

/** Each rank's slice of an array, or a piece of it, at its place. */
export function slicesOf(array: Float32Array, ranks: number, piece = WHOLE): Regions {
  const slices = Array.from({ length: ranks }, (_, r) => pieceOf(array.length, r, ranks, piece));
  return {
    buffer: bytesOf(array),
    offsets: slices.map((s) => s.start * 4),
    bytes: slices.map((s) => (s.end - s.start) * 4),
  };
}

/** One rank's slice of an array, or a piece of it, to every rank. */
export function sliceToEach(array: Float32Array, rank: number, ranks: number, piece = WHOLE): Regions {
  const { start, end } = pieceOf(array.length, rank, ranks, piece);
  return {
    buffer: bytesOf(array),
    offsets: new Array<number>(ranks).fill(start * 4),
    bytes: new Array<number>(ranks).fill((end - start) * 4),
  };
}

export function bytesOf(array: Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Of `bytes` to each peer, those that leave this rank. */
export function bytesToOthers(bytes: readonly number[], rank: number): number {
  return bytes.reduce((total, b, peer) => (peer === rank ? total : total + b), 0);
}

/** Copies the part a rank sends to itself; in a pool it comes first. */
export function copyOwnPart({ send, recv }: ExchangeRequest, rank: number): void {
  const bytes = send.bytes[rank];
  if (bytes === 0) return;
  const from = addressOf(send.buffer) + BigInt(send.offsets[rank]);
  const to = addressOf(recv.buffer) + BigInt(isPool(recv) ? 0 : recv.offsets[rank]);
  // Not TypedArray.set: on shared memory it copies word by word.
  if (from !== to) copyBytes(Number(to), Number(from), bytes);
}
