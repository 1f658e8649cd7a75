/** Where tracks lie: per rank measured over predicted, compute over network. */
import { assignLanes } from "../lanes.js";
import type { PageCase, PageOperator, PageSide, SideKind } from "./data.js";

/** Events of one stream of one rank and side; transfers that are under way at once get lanes below each other. */
export interface Track {
  readonly rank: number;
  readonly side: PageSide;
  readonly stream: PageOperator["stream"];
  readonly y: number;
  readonly height: number;
  readonly numLanes: number;
  /** Indices into the side's events by start, and the lane of each. */
  readonly events: readonly number[];
  readonly lanes: readonly number[];
}

export interface Group {
  readonly rank: number;
  readonly side: PageSide;
  readonly y: number;
  readonly height: number;
  readonly isFirstOfRank: boolean;
}

export interface Layout {
  readonly tracks: readonly Track[];
  readonly groups: readonly Group[];
  readonly height: number;
}

const MARGIN = 10;
const BETWEEN_SIDES = 5;
const BETWEEN_RANKS = 16;
/** A lane stays visible, however many there are. */
const LOWEST_LANE = 4;

/** @param space height that the tracks may fill before they have to be scrolled */
export function layOut(shown: PageCase, kinds: ReadonlySet<SideKind>, space: number): Layout {
  const sides = shown.sides.filter((side) => kinds.has(side.kind));
  const rows = Math.max(1, shown.numRanks * sides.length * 2);
  const gaps = shown.numRanks * (BETWEEN_RANKS + (sides.length - 1) * BETWEEN_SIDES) + 2 * MARGIN;
  const rowHeight = Math.max(13, Math.min(44, Math.floor((space - gaps) / rows)));
  const tracks: Track[] = [];
  const groups: Group[] = [];
  let y = MARGIN;
  for (let rank = 0; rank < shown.numRanks; rank++) {
    sides.forEach((side, s) => {
      const top = y;
      for (const stream of ["compute", "network", "storage"] as const) {
        const events = side.events
          .map((_, i) => i)
          .filter((i) => side.events[i][0] === rank && shown.operators[side.events[i][1]].stream === stream)
          .sort((a, b) => side.events[a][2] - side.events[b][2]);
        if (stream === "storage" && events.length === 0) continue;
        const { lanes, numLanes } = assignLanes(
          events.map((i) => ({ start: side.events[i][2], end: side.events[i][3] })),
        );
        const height = Math.max(rowHeight, numLanes * LOWEST_LANE);
        tracks.push({ rank, side, stream, y, height, numLanes, events, lanes });
        y += height + 1;
      }
      groups.push({ rank, side, y: top, height: y - top - 1, isFirstOfRank: s === 0 });
      y += BETWEEN_SIDES;
    });
    y += BETWEEN_RANKS - BETWEEN_SIDES;
  }
  return { tracks, groups, height: y - BETWEEN_RANKS + MARGIN };
}
