import type { BoardView } from "./board.js";

/** An exchange under way at a board, as the other exchanges of its rank see it. */
export interface Posting {
  /** Does what nobody else can do for it, if it is time. @returns whether there will be nothing more of that */
  tend(): boolean;
  /** Takes every message that nobody is moving, and lets those finish that are being moved. */
  withdraw(): void;
}

/** State that the communicators of one rank share. */
export class Seat {
  nextCommunicator = 1;
  /** Exchanges not yet waited for, of all communicators: peers may still read and write their memory. */
  readonly open = new Set<Posting>();
  /** Those of them that stand in line for a place in their ring, or whose pool may have to grow; older ones first. */
  readonly tended = new Set<Posting>();

  constructor(
    readonly view: BoardView,
    readonly rank: number,
  ) {}

  /**
   * Posts what has a place by now, and makes room where rows lie ready. Whoever starts, asks or waits for any exchange does
   * this, because a peer may be waiting for another one. For a place that is enough: an exchange ends only when all ranks
   * of its group have started it, hence also the one RING before it, whose messages therefore move, which frees the place.
   */
  tend(): void {
    for (const posting of this.tended) if (posting.tend()) this.tended.delete(posting);
  }

  /** Before this rank lets go of memory that peers know by address. */
  withdraw(): void {
    this.tended.clear();
    for (const posting of this.open) posting.withdraw();
    this.open.clear();
  }
}
