/**
 * What the ranks of one communicator have posted, and what has arrived: a ring of postings per rank. A rank uses the
 * posting of exchange s again for exchange s + RING once all messages of s have been moved; until then the younger one
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
  const postings = size * RING;
  return Math.ceil((8 * FIELDS * postings * size + 4 * (4 * postings + 2 * postings * size)) / 64) * 64;
}

/** Typed views of a communicator's ring. Indices: `posting(rank, sequence)`, and for messages posting · size + peer. */
export class Ring {
  /** [postings] sequence + 1 of what is posted. */
  readonly posted: Int32Array;
  /**
   * [postings · size] per message, from a peer to a posting. `claims` is sequence + 1 once a rank has undertaken to copy
   * it, negative while it waits for its pool to grow; `moved` is sequence + 1 once it has been copied, negative if it was
   * given up.
   */
  readonly claims: Int32Array;
  readonly moved: Int32Array;
  /** [postings] words of a posting's pool that have been assigned to messages (may be more than there are), and that it has. */
  readonly poolUsed: Int32Array;
  readonly poolRoom: Int32Array;
  /** [postings] hash of the operator's name. */
  readonly hashes: Int32Array;
  readonly fields: Float64Array;

  constructor(
    buffer: SharedArrayBuffer,
    start: number,
    /** Ranks of the world, of which some take part. */
    readonly size: number,
  ) {
    const postings = size * RING;
    let at = start + 8 * FIELDS * postings * size;
    const take = (length: number): Int32Array => {
      const words = new Int32Array(buffer, at, length);
      at += 4 * length;
      return words;
    };
    this.fields = new Float64Array(buffer, start, FIELDS * postings * size);
    this.posted = take(postings);
    this.claims = take(postings * size);
    this.moved = take(postings * size);
    this.poolUsed = take(postings);
    this.poolRoom = take(postings);
    this.hashes = take(postings);
  }

  posting(rank: number, sequence: number): number {
    return rank * RING + (sequence % RING);
  }

  field(posting: number, peer: number, field: number): number {
    return (posting * this.size + peer) * FIELDS + field;
  }
}
