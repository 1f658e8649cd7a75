/**
 * Who has come to which network transfer. A meeting is a transfer in one of the groups of ranks that make it: a group
 * is complete without regard to the others, and to the other transfers of its ranks.
 */
export class Meetings {
  /** Meetings of all transfers, numbered by transfer, then by group. */
  readonly count: number;
  /** When the last of those who have come came. */
  readonly begins: Float64Array;
  readonly #first: Int32Array;
  readonly #transfer: Int32Array;
  readonly #missing: Int32Array;
  readonly #issued: Float64Array;

  /** @param sizes how many neighbouring ranks meet, by transfer in the order of the stream */
  constructor(
    readonly sizes: readonly number[],
    readonly numRanks: number,
  ) {
    this.#first = new Int32Array(sizes.length + 1);
    sizes.forEach((size, i) => (this.#first[i + 1] = this.#first[i] + Math.ceil(numRanks / size)));
    this.count = this.#first[sizes.length];
    this.begins = new Float64Array(this.count);
    this.#transfer = new Int32Array(this.count);
    this.#missing = new Int32Array(this.count);
    sizes.forEach((size, i) => {
      this.#transfer.fill(i, this.#first[i], this.#first[i + 1]);
      this.#missing.fill(size, this.#first[i], this.#first[i + 1]);
    });
    this.#issued = new Float64Array(sizes.length * numRanks);
  }

  /** A rank issues a transfer. @returns the meeting when nobody is missing any more */
  join(transfer: number, rank: number, nowMs: number): number | undefined {
    const meeting = this.#first[transfer] + Math.floor(rank / this.sizes[transfer]);
    this.#issued[transfer * this.numRanks + rank] = nowMs;
    if (nowMs > this.begins[meeting]) this.begins[meeting] = nowMs;
    return --this.#missing[meeting] === 0 ? meeting : undefined;
  }

  at(meeting: number): { readonly position: number; readonly first: number; readonly size: number } {
    const position = this.#transfer[meeting];
    const size = this.sizes[position];
    return { position, first: (meeting - this.#first[position]) * size, size };
  }

  issuedMs(transfer: number, rank: number): number {
    return this.#issued[transfer * this.numRanks + rank];
  }
}
