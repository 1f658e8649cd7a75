/** What else ranks do together, all on the one primitive `exchange`, so that every transport gives the same bits. */
import { InputError } from "../core/errors.js";
import type { Communicator, Slots } from "./communicator.js";

function shared(bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(Math.max(8, Math.ceil(bytes / 8) * 8)));
}

function everyRank(buffer: Uint8Array, size: number, bytes: number): Slots {
  return { buffer, offsets: new Array<number>(size).fill(0), bytes: new Array<number>(size).fill(bytes) };
}

function fromEach(buffer: Uint8Array, size: number, stride: number): Slots {
  return {
    buffer,
    offsets: Array.from({ length: size }, (_, r) => r * stride),
    bytes: new Array<number>(size).fill(stride),
  };
}

/** Returns when every rank has called it. */
export function barrier(comm: Communicator, label: string): void {
  gatherBytes(comm, new Uint8Array(4), label);
}

/** The equally long bytes of every rank, in rank order. */
export function gatherBytes(comm: Communicator, mine: Uint8Array, label: string): Uint8Array[] {
  const stride = Math.ceil(mine.byteLength / 8) * 8;
  const send = shared(stride);
  send.set(mine);
  const recv = shared(stride * comm.size);
  comm
    .exchange({ label, send: everyRank(send, comm.size, stride), recv: fromEach(recv, comm.size, stride) })
    .wait();
  return Array.from({ length: comm.size }, (_, r) => recv.slice(r * stride, r * stride + mine.byteLength));
}

/** Element-wise sums of a few f64 numbers over all ranks, added in rank order. */
export function sumScalars(comm: Communicator, values: readonly number[], label: string): number[] {
  if (comm.size === 1) return [...values];
  const all = gatherBytes(comm, new Uint8Array(Float64Array.from(values).buffer), label);
  const totals = new Float64Array(values.length);
  for (const bytes of all) new Float64Array(bytes.buffer).forEach((value, i) => (totals[i] += value));
  return [...totals];
}

/** Largest of each number over all ranks. */
export function maxScalars(comm: Communicator, values: readonly number[], label: string): number[] {
  if (comm.size === 1) return [...values];
  const all = gatherBytes(comm, new Uint8Array(Float64Array.from(values).buffer), label);
  return values.map((_, i) => Math.max(...all.map((bytes) => new Float64Array(bytes.buffer)[i])));
}

/** Every rank's JSON value, in rank order. */
export function gatherJson<T>(comm: Communicator, value: T, label: string): T[] {
  if (comm.size === 1) return [value];
  const text = new TextEncoder().encode(JSON.stringify(value));
  const longest = maxScalars(comm, [text.length], label)[0];
  const padded = new Uint8Array(longest + 4);
  new DataView(padded.buffer).setUint32(0, text.length, true);
  padded.set(text, 4);
  return gatherBytes(comm, padded, label).map((bytes) => {
    const length = new DataView(bytes.buffer).getUint32(0, true);
    return JSON.parse(new TextDecoder().decode(bytes.slice(4, 4 + length))) as T;
  });
}

/** The JSON value of one rank, on every rank. */
export function broadcastJson<T>(comm: Communicator, value: T | undefined, root: number, label: string): T {
  return gatherJson(comm, comm.rank === root ? { value } : {}, label)[root].value as T;
}

/** Sums an array over all ranks in place: slices to their owners, added there in rank order, gathered. */
export function allReduceSum(comm: Communicator, array: Float32Array, label: string): void {
  if (comm.size === 1) return;
  const cut = (r: number): number => Math.floor((array.length * r) / comm.size);
  const starts = Array.from({ length: comm.size }, (_, r) => cut(r));
  const lengths = starts.map((start, r) => cut(r + 1) - start);
  const own = lengths[comm.rank];
  const view = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const slices: Slots = { buffer: view, offsets: starts.map((s) => s * 4), bytes: lengths.map((n) => n * 4) };
  const parts = shared(own * 4 * comm.size);
  comm
    .exchange({ label: `${label}.scatter`, send: slices, recv: fromEach(parts, comm.size, own * 4) })
    .wait();
  const numbers = new Float32Array(parts.buffer);
  const mine = array.subarray(starts[comm.rank], starts[comm.rank] + own);
  mine.set(numbers.subarray(0, own));
  for (let r = 1; r < comm.size; r++) for (let i = 0; i < own; i++) mine[i] += numbers[r * own + i];
  const send: Slots = {
    buffer: view,
    offsets: starts.map(() => starts[comm.rank] * 4),
    bytes: starts.map(() => own * 4),
  };
  comm.exchange({ label: `${label}.gather`, send, recv: slices }).wait();
}

/**
 * Checks that every rank would do the same.
 * @throws InputError naming what differs, on which rank, and both values
 */
export function agree(comm: Communicator, facts: Readonly<Record<string, string>>): void {
  const all = gatherJson(comm, facts, "agreement");
  for (const name of Object.keys(all[0]))
    all.forEach((other, rank) => {
      if (other[name] !== all[0][name])
        throw new InputError(
          `Ranks disagree on ${name}: rank 0 has ${all[0][name]}, rank ${rank} has ${other[name]}; start all ranks with the same`,
        );
    });
}
