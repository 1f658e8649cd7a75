/**
 * A communicator without peers: one rank's program runs as rank r of n, nothing is sent, and every message is recorded,
 * so that the traffic of hundreds of ranks can be counted on one.
 *
 * What arrives is made up: each peer "sends" to this rank exactly what this rank sends to it (sizes, notes and, as far
 * as there is room, bytes). So shapes are right and sizes plausible: a symmetric exchange keeps its true sizes, a ragged
 * one gets this rank's own sizes back. What it cannot prove: that values are right, that ranks agree with one another,
 * that orders match, deadlines, and anything about time.
 */
import { nowMs } from "../src/core/clock.js";
import { assert } from "../src/core/errors.js";
import {
  type Communicator,
  type ExchangeRequest,
  type ExchangeResult,
  type Handle,
  type Pool,
  type Regions,
  isPool,
  membersOf,
} from "../src/comm/communicator.js";
import { copyOwnPart } from "../src/comm/regions.js";

export interface Message {
  /** Ranks of the world. */
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
  readonly operator: string;
}

export interface NullCommunicator extends Communicator {
  /** What this rank has sent to others, in order, through this communicator and all split from it. */
  readonly messages: readonly Message[];
}

export function nullCommunicator(options: { rank: number; size: number }): NullCommunicator {
  const { rank, size } = options;
  assert(rank >= 0 && rank < size, `rank ${rank} is one of ${size}`);
  return inGroup(
    rank,
    Array.from({ length: size }, (_, r) => r),
    [],
  );
}

function inGroup(worldRank: number, members: readonly number[], messages: Message[]): NullCommunicator {
  const size = members.length;
  const rank = members.indexOf(worldRank);
  return {
    kind: "threads",
    rank,
    size,
    deadlineMs: Infinity,
    messages,
    exchange(request) {
      request.send.bytes.forEach((bytes, peer) => {
        if (peer !== rank)
          messages.push({ from: worldRank, to: members[peer], bytes, operator: request.label });
      });
      return mirrored(request, rank);
    },
    split: (colorOf) =>
      inGroup(
        worldRank,
        membersOf(size, rank, colorOf).map((r) => members[r]),
        messages,
      ),
    abort: () => undefined,
    close: () => undefined,
  };
}

/** Gives back to a rank what it sends. */
function mirrored(request: ExchangeRequest, rank: number): Handle<ExchangeResult> {
  const startMs = nowMs();
  const { send } = request;
  copyOwnPart(request, rank);
  const { buffer, offsets, bytes } = isPool(request.recv)
    ? packed(send, request.recv, rank)
    : // Ranks agree on the sizes of fixed regions beforehand.
      { ...request.recv, bytes: request.recv.bytes.map((b, p) => (p === rank ? send.bytes[p] : b)) };
  send.bytes.forEach((sent, peer) => {
    const from = send.offsets[peer];
    if (peer !== rank)
      buffer.set(send.buffer.subarray(from, from + Math.min(bytes[peer], sent)), offsets[peer]);
  });
  const result = { bytes, offsets, notes: Int32Array.from(request.notes ?? []), startMs, endMs: nowMs() };
  return { done: true, wait: () => result };
}

function packed(send: Regions, pool: Pool, rank: number): Regions {
  const total = send.bytes.reduce((a, b) => a + b, 0);
  let at = send.bytes[rank];
  const offsets = send.bytes.map((bytes, peer) => (peer === rank ? 0 : (at += bytes) - bytes));
  const buffer = total <= pool.buffer.byteLength ? pool.buffer : pool.grow(total);
  if (buffer !== pool.buffer) buffer.set(pool.buffer.subarray(0, send.bytes[rank]));
  return { buffer, offsets, bytes: send.bytes };
}
