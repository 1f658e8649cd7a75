import type { BoardView } from "./board.js";

/** An exchange under way at a board, as the other exchanges of its rank see it. */
export interface Posting {
  /** Shows the exchange to its peers as soon as its place in the ring is free. */
  post(): boolean;
  /** Takes every message that nobody is moving, and lets those finish that are being moved. */
  withdraw(): void;
}

/** State that the communicators of one rank share. */
export class Seat {
  nextCommunicator = 1;
  /** Exchanges not yet waited for, of all communicators: peers may still read and write their memory. */
  readonly open = new Set<Posting>();
  /** Those of them that stand in line for a place in their ring, older ones first. */
  readonly inLine = new Set<Posting>();

  constructor(
    readonly view: BoardView,
    readonly rank: number,
  ) {}

  /**
   * Posts what has a place by now. Whoever starts, asks or waits for any exchange does this, because a peer may be
   * waiting for one that stands in line here. That is enough: an exchange is waited for only after all ranks of its
   * group have started it, hence also the one RING before it, whose messages therefore move, which frees the place.
   */
  advance(): void {
    for (const posting of this.inLine) if (posting.post()) this.inLine.delete(posting);
  }

  /** Before this rank lets go of memory that peers know by address. */
  withdraw(): void {
    this.inLine.clear();
    for (const posting of this.open) posting.withdraw();
    this.open.clear();
  }
}
