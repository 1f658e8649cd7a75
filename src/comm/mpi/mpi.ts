/** Ranks as processes of an MPI job, on one host or many. */
import { addressOf } from "../../core/address.js";
import { nowMs } from "../../core/clock.js";
import { CommError, EnvironmentError } from "../../core/errors.js";
import { gatherJson } from "../collectives.js";
import type { Communicator, ExchangeRequest, ExchangeResult, Pending } from "../communicator.js";
import { copyOwnPart } from "../single.js";
import { type MpiLibrary, launcherSize, mpiLibrary } from "./library.js";

const START_MS = 60_000;
/** Sequence numbers that tags distinguish; messages of one tag keep their order anyway. */
const TAG_SEQUENCES = 1 << 12;
const FINALIZE_MS = 10_000;

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
  if (mpi.init(START_MS) !== 0) throw new EnvironmentError(`MPI did not start within ${START_MS / 1e3} s`);
  const size = mpi.size();
  const expected = launcherSize();
  if (expected !== undefined && expected !== size)
    throw new EnvironmentError(
      `The launcher started ${expected} ranks, MPI sees ${size}: mpirun belongs to another MPI than the one scmoe was built with; run: npm run build:mpi`,
    );
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
    const tag = this.id * TAG_SEQUENCES + (this.#sequence++ % TAG_SEQUENCES);
    const startMs = nowMs();
    onOperator(request.label);
    const [send, recv] = [addressOf(request.send.buffer), addressOf(request.recv.buffer)];
    const pick = (values: readonly number[], base = 0n): BigInt64Array =>
      BigInt64Array.from(this.#others, (p) => base + BigInt(values[p]));
    const id = mpi.post(
      tag,
      this.#others.length,
      this.#ranks,
      pick(request.send.offsets, send),
      pick(request.send.bytes),
      pick(request.recv.offsets, recv),
      pick(request.recv.bytes),
    );
    copyOwnPart(request, this.rank);
    return new MpiPending(this, request, { id, startMs, others: this.#others });
  }

  split(color: number, label: string): Communicator {
    const id = this.seat.nextCommunicator++;
    const colors = gatherJson(this, color, label);
    return new MpiCommunicator(
      this.seat,
      id,
      this.members.filter((_, r) => colors[r] === color),
    );
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

class MpiPending implements Pending {
  #result: ExchangeResult | undefined;

  constructor(
    readonly comm: MpiCommunicator,
    /** Held until everything has arrived: MPI reads and writes its memory by address. */
    readonly request: ExchangeRequest,
    readonly at: { readonly id: number; readonly startMs: number; readonly others: readonly number[] },
  ) {}

  get done(): boolean {
    return this.#result !== undefined || this.comm.seat.mpi.done(this.at.id) !== 0;
  }

  wait(deadlineMs = this.comm.deadlineMs): ExchangeResult {
    if (this.#result !== undefined) return this.#result;
    const { mpi, rank } = this.comm.seat;
    const { others, id, startMs } = this.at;
    const { label } = this.request;
    const got = new BigInt64Array(Math.max(1, others.length));
    const times = new Float64Array(2);
    const status = mpi.wait(id, deadlineMs, got, times);
    if (status !== 0) {
      const late = others.filter((_, i) => got[i] < 0n).map((p) => this.comm.members[p]);
      const reason =
        status === 1
          ? `no answer from ${late.map((r) => `rank ${r}`).join(", ") || "any rank"} within ${deadlineMs / 1e3} s`
          : mpi.error(id);
      this.comm.seat.broken = true;
      throw new CommError(`${label}: ${reason}`, { rank, peers: late, operator: label });
    }
    const bytes = [...this.request.send.bytes];
    others.forEach((p, i) => (bytes[p] = Number(got[i])));
    const begin = Math.max(startMs, times[0]);
    return (this.#result = { bytes, startMs: begin, endMs: Math.max(begin, times[1]) });
  }
}
