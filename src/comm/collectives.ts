/**
 * What else ranks do together, all on the one primitive `exchange`, so that every transport gives the same bits. The
 * first half returns handles; the second are blocking conveniences for small values.
 */
import { InputError } from "../core/errors.js";
import type { Communicator, Handle } from "./communicator.js";
import { fromEach, slicesOf, sliceOf, sliceToEach, toEach } from "./regions.js";

/** Memory of one collective; a multiple of 8 bytes. */
function shared(bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(Math.max(8, Math.ceil(bytes / 8) * 8)));
}

type Deadline = Parameters<Handle<unknown>["wait"]>;

/** A handle whose `wait` does more once the exchange has ended, the first time it is called. */
function after<A, B>(handle: Handle<A>, finish: (result: A, deadline: Deadline) => B): Handle<B> {
  let outcome: { readonly value: B } | undefined;
  return {
    get done() {
      return outcome !== undefined || handle.done;
    },
    wait(...deadline) {
      outcome ??= { value: finish(handle.wait(...deadline), deadline) };
      return outcome.value;
    },
  };
}

/** Done when every rank has called it. */
export function barrier(comm: Communicator, label: string): Handle<void> {
  return after(allGather(comm, new Uint8Array(0), label), () => undefined);
}

/** The bytes of every rank, in rank order; ranks may have different numbers of them. */
export function allGather(comm: Communicator, mine: Uint8Array, label: string): Handle<Uint8Array[]> {
  const stride = Math.ceil(mine.byteLength / 4) * 4;
  const send = shared(stride);
  send.set(mine);
  let room = shared(stride * comm.size);
  const handle = comm.exchange({
    label,
    send: toEach(send, comm.size, stride),
    recv: { buffer: room, grow: (wanted) => (room = shared(wanted)) },
    // Regions are whole words; the note says how many bytes of the last one do not count.
    notes: new Int32Array(comm.size).fill(stride - mine.byteLength),
  });
  return after(handle, ({ offsets, bytes, notes }) =>
    offsets.map((at, rank) => room.slice(at, at + bytes[rank] - notes[rank])),
  );
}

/** The bytes of `root`, on every rank (`mine` is ignored on the others). */
export function broadcast(
  comm: Communicator,
  mine: Uint8Array | undefined,
  root: number,
  label: string,
): Handle<Uint8Array> {
  const told = comm.rank === root && mine !== undefined ? mine : new Uint8Array(0);
  return after(allGather(comm, told, label), (all) => all[root]);
}

/**
 * Sums an array over all ranks, in rank order; afterwards this rank's slice (`sliceOf`) holds the sum, the rest of the
 * array is as before.
 * @param array over a SharedArrayBuffer
 * @throws InputError when it is not
 */
export function reduceScatter(
  comm: Communicator,
  array: Float32Array,
  label: string,
): Handle<{ start: number; end: number }> {
  // Other ranks read and write it by address, which memory of one thread may lose.
  if (!(array.buffer instanceof SharedArrayBuffer))
    throw new InputError(
      `${label}: the array to be summed lies in memory of this thread alone; make it over a SharedArrayBuffer`,
    );
  const { start, end } = sliceOf(array.length, comm.rank, comm.size);
  const own = end - start;
  const parts = shared(own * 4 * comm.size);
  const handle = comm.exchange({
    label,
    send: slicesOf(array, comm.size),
    recv: fromEach(parts, comm.size, own * 4),
  });
  return after(handle, () => {
    const numbers = new Float32Array(parts.buffer);
    const sum = array.subarray(start, end);
    sum.set(numbers.subarray(0, own));
    for (let r = 1; r < comm.size; r++) for (let i = 0; i < own; i++) sum[i] += numbers[r * own + i];
    return { start, end };
  });
}

/**
 * Sums an array over all ranks in place: slices to their owners, added there in rank order, gathered. The gathering
 * begins in `wait`, so only the first half overlaps with what the caller computes, and `done` is true only after `wait`:
 * begun in `done` it would take its place among the other exchanges at a different time on each rank.
 * @param array over a SharedArrayBuffer
 * @throws InputError when it is not
 */
export function allReduce(comm: Communicator, array: Float32Array, label: string): Handle<void> {
  if (comm.size === 1) return { done: true, wait: () => undefined };
  const scattered = reduceScatter(comm, array, `${label}.scatter`);
  const reduced = after(scattered, (_, deadline) => {
    comm
      .exchange({
        label: `${label}.gather`,
        send: sliceToEach(array, comm.rank, comm.size),
        recv: slicesOf(array, comm.size),
      })
      .wait(...deadline);
    return true;
  });
  let finished = false;
  return {
    get done() {
      return finished;
    },
    wait(...deadline) {
      finished = reduced.wait(...deadline);
    },
  };
}

/** Element-wise sums of a few f64 numbers over all ranks, added in rank order. */
export function sumScalars(comm: Communicator, values: readonly number[], label: string): number[] {
  if (comm.size === 1) return [...values];
  const totals = new Float64Array(values.length);
  for (const row of gatherScalars(comm, values, label)) row.forEach((value, i) => (totals[i] += value));
  return [...totals];
}

/** Largest of each number over all ranks. */
export function maxScalars(comm: Communicator, values: readonly number[], label: string): number[] {
  if (comm.size === 1) return [...values];
  const rows = gatherScalars(comm, values, label);
  return values.map((_, i) => Math.max(...rows.map((row) => row[i])));
}

function gatherScalars(comm: Communicator, values: readonly number[], label: string): Float64Array[] {
  return allGather(comm, new Uint8Array(Float64Array.from(values).buffer), label)
    .wait()
    .map((bytes) => new Float64Array(bytes.buffer));
}

/** Every rank's JSON value, in rank order. */
export function gatherJson<T>(comm: Communicator, value: T, label: string): T[] {
  if (comm.size === 1) return [value];
  return allGather(comm, new TextEncoder().encode(JSON.stringify(value)), label)
    .wait()
    .map((bytes) => JSON.parse(new TextDecoder().decode(bytes)) as T);
}

/** The JSON value of one rank, on every rank. */
export function broadcastJson<T>(comm: Communicator, value: T | undefined, root: number, label: string): T {
  if (comm.size === 1) return value as T;
  const text = new TextEncoder().encode(JSON.stringify({ value }));
  const told = new TextDecoder().decode(broadcast(comm, text, root, label).wait());
  return (JSON.parse(told) as { value: T }).value;
}

/**
 * Checks that every rank would do the same.
 * @param facts plain data; what lies within objects is compared key by key
 * @throws InputError naming what differs, on which rank, and both values
 */
export function agree(comm: Communicator, facts: Readonly<Record<string, unknown>>): void {
  const all = gatherJson(comm, leaves(facts), "agreement");
  const [first] = all;
  all.forEach((other, rank) => {
    const name = Object.keys({ ...first, ...other }).find((key) => other[key] !== first[key]);
    if (name !== undefined)
      throw new InputError(
        `Ranks disagree on ${name}: rank 0 has ${first[name] ?? "nothing"}, rank ${rank} has ${other[name] ?? "nothing"}; start all ranks with the same`,
      );
  });
}

/** "train.steps": "100" and so on. */
function leaves(facts: object, prefix = ""): Record<string, string> {
  return Object.fromEntries(
    Object.entries(facts).flatMap(([key, value]: [string, unknown]) =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.entries(leaves(value, `${prefix}${key}.`))
        : value === undefined
          ? []
          : [[prefix + key, JSON.stringify(value)]],
    ),
  );
}
