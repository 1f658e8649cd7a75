/**
 * What the ranks of one communicator have posted, and what has arrived: a ring of postings per rank. A rank uses the
 * place of exchange s again for exchange s + RING once all messages of s have been moved; until then the younger one
 * waits in line at its rank (`pending.ts`). So the ring is a window and not a limit, and it needs no more memory however
 * many exchanges are under way.
 */

/** Postings of one rank that its peers can see at once. */
export const RING = 32;

/** Fields of a posting towards one peer, as f64: addresses are below 2^53. */
export const FIELD = {
  sendAddress: 0,
  sendBytes: 1,
  /** In a pool: of the pool. */
  recvAddress: 2,
  /** Room for this peer; −1 in a pool. */
  recvBytes: 3,
  sendNotes: 4,
  recvNotes: 5,
  noteBytes: 6,
  /** What has arrived from this peer, and where relative to `recvAddress` (of a pool). */
  gotBytes: 7,
  gotOffset: 8,
  /** When both sides had posted, and when the link delivers. */
  readyMs: 9,
  arrivalMs: 10,
} as const;
const FIELDS = 11;
/** Pools are counted in words, so that 32 bits reach 8 GiB. */
export const WORD = 4;

/** Memory of a ring among `size` ranks. */
export function ringBytes(size: number): number {
  const slots = size * RING;
  return Math.ceil((8 * FIELDS * slots * size + 4 * (4 * slots + 2 * slots * size)) / 64) * 64;
}

/** Typed views of a communicator's ring. Indices: `slot(rank, sequence)`, and slot · size + peer for pairs. */
export class Ring {
  /** [slots] sequence number + 1 of the posting. */
  readonly posted: Int32Array;
  /**
   * [slots · size] of the message from a peer into a slot: sequence number + 1 once somebody has taken it on, and once it
   * has been moved. Negative claim: parked until its pool has room. Negative move: given up.
   */
  readonly claims: Int32Array;
  readonly moved: Int32Array;
  /** [slots] words of a slot's pool that are dealt out, and that it has; may exceed what it has. */
  readonly poolUsed: Int32Array;
  readonly poolRoom: Int32Array;
  /** [slots] of the operator's name. */
  readonly hashes: Int32Array;
  readonly fields: Float64Array;

  constructor(
    buffer: SharedArrayBuffer,
    start: number,
    /** Ranks of the world, of which some take part. */
    readonly size: number,
  ) {
    const slots = size * RING;
    let at = start + 8 * FIELDS * slots * size;
    const take = (length: number): Int32Array => {
      const words = new Int32Array(buffer, at, length);
      at += 4 * length;
      return words;
    };
    this.fields = new Float64Array(buffer, start, FIELDS * slots * size);
    this.posted = take(slots);
    this.claims = take(slots * size);
    this.moved = take(slots * size);
    this.poolUsed = take(slots);
    this.poolRoom = take(slots);
    this.hashes = take(slots);
  }

  slot(rank: number, sequence: number): number {
    return rank * RING + (sequence % RING);
  }

  field(slot: number, peer: number, field: number): number {
    return (slot * this.size + peer) * FIELDS + field;
  }
}
