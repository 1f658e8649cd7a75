/** Ranks as processes of an MPI job, on one host or many. */
import { addressOf, copyBytes } from "../../core/address.js";
import { nowMs } from "../../core/clock.js";
import { CommError, EnvironmentError } from "../../core/errors.js";
import {
  type Communicator,
  type ExchangeRequest,
  type ExchangeResult,
  type Pending,
  isPool,
  membersOf,
} from "../communicator.js";
import { copyOwnPart } from "../slots.js";
import { type MpiLibrary, launcherSize, mpiLibrary } from "./library.js";

/** Ranks start processes, and some start late: they get at least this long to join. */
const START_MS = 20_000;
/** Sequence numbers that tags distinguish; messages of one tag keep their order anyway. */
const TAG_SEQUENCES = 1 << 12;
const FINALIZE_MS = 10_000;

/**
 * Exchanges whose memory MPI may read and write (native/mpi/exchange.h has the rule). Not of a communicator: MPI goes on
 * with them when nobody knows the communicator any more.
 */
const lent = new Map<number, MpiPending>();
/** Those of them that were late or failed: MPI may let go of them later, or never. */
const overdue = new Set<MpiPending>();

interface Seat {
  readonly mpi: MpiLibrary;
  readonly rank: number;
  readonly deadlineMs: number;
  /** Told which operator this rank is in. */
  readonly onOperator: (label: string) => void;
  nextCommunicator: number;
  broken: boolean;
}

/**
 * Starts MPI in this process.
 * @throws EnvironmentError when MPI is missing, or the launcher belongs to another MPI
 */
export function joinMpi(options: { deadlineMs: number; onOperator?: (label: string) => void }): Communicator {
  const mpi = mpiLibrary();
  const startMs = Math.max(START_MS, options.deadlineMs);
  if (mpi.init(startMs) !== 0)
    throw new EnvironmentError(
      `MPI did not start within ${startMs / 1e3} s: at least one of ${launcherSize() ?? "the"} ranks has not joined`,
    );
  const size = mpi.size();
  const expected = launcherSize();
  if (expected !== undefined && expected !== size)
    throw new EnvironmentError(
      `The launcher started ${expected} ranks, MPI sees ${size}: mpirun belongs to another MPI than the one scmoe was built with; run: npm run build:mpi`,
    );
  // This thread's memory goes with it, MPI's own thread stays.
  process.once("exit", () => mpi.stop(FINALIZE_MS));
  const seat: Seat = {
    mpi,
    rank: mpi.rank(),
    deadlineMs: options.deadlineMs,
    onOperator: options.onOperator ?? (() => undefined),
    nextCommunicator: 1,
    broken: false,
  };
  return new MpiCommunicator(
    seat,
    0,
    Array.from({ length: size }, (_, r) => r),
  );
}

class MpiCommunicator implements Communicator {
  readonly kind = "mpi";
  readonly rank: number;
  readonly #others: readonly number[];
  readonly #ranks: Int32Array;
  #sequence = 0;

  constructor(
    readonly seat: Seat,
    readonly id: number,
    /** [size] ranks of the world that take part. */
    readonly members: readonly number[],
  ) {
    this.rank = members.indexOf(seat.rank);
    // Begin with the next rank, so that not all send to the same one first.
    this.#others = Array.from({ length: members.length - 1 }, (_, i) => (this.rank + 1 + i) % members.length);
    this.#ranks = Int32Array.from(this.#others, (p) => members[p]);
  }

  get size(): number {
    return this.members.length;
  }

  get deadlineMs(): number {
    return this.seat.deadlineMs;
  }

  exchange(request: ExchangeRequest): Pending {
    const { mpi, onOperator } = this.seat;
    for (const pending of overdue) pending.reclaim();
    const tag = this.id * TAG_SEQUENCES + (this.#sequence++ % TAG_SEQUENCES);
    const startMs = nowMs();
    const { label, send, recv, notes } = request;
    onOperator(label);
    const pick = (values: readonly number[], base = 0n): BigInt64Array =>
      BigInt64Array.from(this.#others, (p) => base + BigInt(values[p]));
    const from = addressOf(send.buffer);
    const to = addressOf(recv.buffer);
    const none = new BigInt64Array(1);
    const perPeer = (notes?.length ?? 0) / this.size;
    const notesOut = offHeap(perPeer * this.#others.length);
    const notesIn = offHeap(perPeer * this.#others.length);
    this.#others.forEach((p, i) => {
      if (notes !== undefined) notesOut.set(notes.subarray(p * perPeer, (p + 1) * perPeer), i * perPeer);
    });
    const id = mpi.post(
      tag,
      label,
      this.#others.length,
      this.#ranks,
      pick(send.offsets, from),
      pick(send.bytes),
      isPool(recv) ? none : pick(recv.offsets, to),
      isPool(recv) ? none : pick(recv.bytes),
      isPool(recv)
        ? BigInt64Array.of(to, BigInt(recv.buffer.byteLength), BigInt(send.bytes[this.rank]))
        : null,
      perPeer,
      notesOut,
      notesIn,
    );
    copyOwnPart(request, this.rank);
    return new MpiPending(this, request, { id, startMs, others: this.#others, notesIn });
  }

  split(colorOf: (rank: number) => number): Communicator {
    const id = this.seat.nextCommunicator++;
    const members = membersOf(this.size, this.rank, colorOf).map((r) => this.members[r]);
    return new MpiCommunicator(this.seat, id, members);
  }

  abort(): void {
    this.seat.broken = true;
  }

  close(): void {
    const { mpi, broken } = this.seat;
    // A rank that failed cannot finalize: the others may be waiting for it. They end with the job.
    if (this.id !== 0 || broken) return;
    if (mpi.finalize(FINALIZE_MS) !== 0) mpi.abort(1);
  }
}

/** Native code writes it later: it must not lie on the heap, where small arrays move. */
function offHeap(length: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(Math.max(1, length) * 4), 0, length);
}

interface Posted {
  readonly id: number;
  readonly startMs: number;
  /** Peers in the order in which native code has them. */
  readonly others: readonly number[];
  readonly notesIn: Int32Array;
}

/** What `wait` of the library returns. */
const STATUS = { finished: 0, late: 1, failed: 2, wantsRoom: 3 } as const;

/** For every pool that needs it: a peer may be waiting for another exchange than the one asked for here. */
function makeRooms(mpi: MpiLibrary): void {
  for (let id = mpi.wants_room(); id !== 0; id = mpi.wants_room()) lent.get(id)?.makeRoom();
}

class MpiPending implements Pending {
  #result: ExchangeResult | undefined;
  /** What a pool grew into, held like the request. */
  #memory: Uint8Array | undefined;

  constructor(
    readonly comm: MpiCommunicator,
    readonly request: ExchangeRequest,
    readonly at: Posted,
  ) {
    lent.set(at.id, this);
  }

  get done(): boolean {
    if (this.#result !== undefined) return true;
    makeRooms(this.comm.seat.mpi);
    return this.comm.seat.mpi.done(this.at.id) === 1;
  }

  wait(deadlineMs = this.comm.deadlineMs, sinceMs = nowMs()): ExchangeResult {
    if (this.#result !== undefined) return this.#result;
    const { mpi } = this.comm.seat;
    const { others, id, startMs } = this.at;
    const got = new BigInt64Array(Math.max(1, others.length));
    const offsets = new BigInt64Array(Math.max(1, others.length));
    const times = new Float64Array(2);
    const limit = sinceMs + deadlineMs;
    let status: number;
    do {
      status = mpi.wait(id, Math.max(0, limit - nowMs()), got, offsets, times);
      if (status === STATUS.wantsRoom) makeRooms(mpi);
    } while (status === STATUS.wantsRoom);
    if (status !== STATUS.finished) throw this.#error(status, got, deadlineMs);
    lent.delete(this.at.id);
    const result = this.#regions(got, offsets);
    const begin = Math.max(startMs, times[0]);
    return (this.#result = { ...result, startMs: begin, endMs: Math.max(begin, times[1]) });
  }

  /** Lets go of the memory if MPI has. */
  reclaim(): void {
    if (this.comm.seat.mpi.released(this.at.id) === 0) return;
    lent.delete(this.at.id);
    overdue.delete(this);
  }

  /** Gives a pool that is too small memory for everything. */
  makeRoom(): void {
    const { mpi } = this.comm.seat;
    const { recv } = this.request;
    if (!isPool(recv)) return;
    this.#memory = recv.grow(Number(mpi.wanted(this.at.id)));
    mpi.room(this.at.id, addressOf(this.#memory));
  }

  #regions(got: BigInt64Array, at: BigInt64Array): Pick<ExchangeResult, "bytes" | "offsets" | "notes"> {
    const { send, recv, notes } = this.request;
    const { others, notesIn } = this.at;
    const { rank } = this.comm;
    const bytes = [...send.bytes];
    const offsets = isPool(recv) ? send.bytes.map(() => 0) : [...recv.offsets];
    const allNotes = Int32Array.from(notes ?? []);
    const perPeer = allNotes.length / this.comm.size;
    others.forEach((p, i) => {
      bytes[p] = Number(got[i]);
      if (isPool(recv)) offsets[p] = Number(at[i]);
      allNotes.set(notesIn.subarray(i * perPeer, (i + 1) * perPeer), p * perPeer);
    });
    if (this.#memory !== undefined) {
      // What had its place in the old memory moves to the same place in the new.
      const [from, to] = [Number(addressOf(recv.buffer)), Number(addressOf(this.#memory))];
      for (const p of [rank, ...others])
        if (offsets[p] + bytes[p] <= recv.buffer.byteLength)
          copyBytes(to + offsets[p], from + offsets[p], bytes[p]);
    }
    return { bytes, offsets, notes: allNotes };
  }

  #error(status: number, got: BigInt64Array, deadlineMs: number): CommError {
    const { mpi, rank } = this.comm.seat;
    const { label } = this.request;
    const late = this.at.others.filter((_, i) => got[i] < 0n).map((p) => this.comm.members[p]);
    const seen = late.map((r) => `rank ${r} (last seen in ${mpi.last_label(r) || "start-up"})`).join(", ");
    const reason =
      status === STATUS.late
        ? `no answer from ${seen || "any rank"} within ${deadlineMs / 1e3} s`
        : mpi.error(this.at.id);
    this.comm.seat.broken = true;
    overdue.add(this);
    return new CommError(`${label}: ${reason}`, { rank, peers: late, operator: label });
  }
}
