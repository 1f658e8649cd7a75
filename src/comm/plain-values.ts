/** Plain data from one rank to each of the others, and back. Of any size: what numbers and absent keys are survives, unlike in JSON. */
import { deserialize, serialize } from "node:v8";
import type { Communicator } from "./communicator.js";

/** Values up to this size arrive while their rank computes. */
const ROOM_BYTES = 1024;
const NOTHING = new Uint8Array(0);

/**
 * A value of its own for each rank, from rank 0.
 * @param values [size] on rank 0; ignored on the others
 * @param deadlineMs of the others' wait for rank 0; Infinity: as long as it may take it to have something for them
 * @returns this rank's value; rank 0's is not copied
 */
export function scatterValues<T>(
  comm: Communicator,
  values: readonly T[] | undefined,
  label: string,
  deadlineMs?: number,
): T {
  const parts = values?.map((value, rank) => (rank === 0 ? NOTHING : serialize(value)));
  const got = deliver(comm, parts ?? nothingFor(comm), label, deadlineMs);
  return comm.rank === 0 ? (values as readonly T[])[0] : (deserialize(got[0]) as T);
}

/**
 * @param deadlineMs of all ranks' wait for each other
 * @returns [size] every rank's value, on rank 0; undefined on the others
 */
export function gatherValues<T>(
  comm: Communicator,
  value: T,
  label: string,
  deadlineMs?: number,
): T[] | undefined {
  const parts = nothingFor(comm);
  if (comm.rank !== 0) parts[0] = serialize(value);
  const got = deliver(comm, parts, label, deadlineMs);
  if (comm.rank !== 0) return undefined;
  return got.map((bytes, rank) => (rank === 0 ? value : (deserialize(bytes) as T)));
}

function nothingFor({ size }: Communicator): Uint8Array[] {
  return new Array<Uint8Array>(size).fill(NOTHING);
}

/** @returns [size] the bytes that each rank sent here */
function deliver(
  comm: Communicator,
  parts: readonly Uint8Array[],
  label: string,
  deadlineMs?: number,
): Uint8Array[] {
  if (comm.size === 1) return [...parts];
  let end = 0;
  const offsets = parts.map(({ length }) => (end += wholeWords(length)) - wholeWords(length));
  const send = shared(end);
  parts.forEach((part, peer) => send.set(part, offsets[peer]));
  let room = shared(ROOM_BYTES);
  const { bytes, ...got } = comm
    .exchange({
      label,
      send: { buffer: send, offsets, bytes: parts.map(({ length }) => wholeWords(length)) },
      recv: { buffer: room, grow: (wanted) => (room = shared(wanted)) },
      // Regions are whole words; the note says how long the value is.
      notes: Int32Array.from(parts, ({ length }) => length),
    })
    .wait(deadlineMs);
  return bytes.map((_, peer) => room.slice(got.offsets[peer], got.offsets[peer] + got.notes[peer]));
}

function wholeWords(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

function shared(bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(Math.max(4, bytes)));
}
