/** What a drawing shows, and the boxes that it leaves on the canvas. */
import { type PageCase, type PageSide, milliseconds } from "./data.js";
import type { Layout } from "./layout.js";
import type { Viewport } from "./viewport.js";

/** Pixels left of the tracks, for their names, and above them, for the time. */
export const GUTTER = 128;
export const AXIS = 26;

export interface Selection {
  readonly side: PageSide;
  /** Index into the side's events. */
  readonly event: number;
}

/** What a pixel belongs to. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly side: PageSide;
  /** Index into the side's events, or into its exposed intervals. */
  readonly event?: number;
  readonly exposed?: number;
}

export interface Scene {
  readonly shown: PageCase;
  readonly layout: Layout;
  readonly viewport: Viewport;
  readonly selected?: Selection;
  readonly hovered?: Selection;
  readonly arrows: boolean;
}

/** What a drawing is drawn with. */
export interface Brush {
  readonly pen: CanvasRenderingContext2D;
  readonly scene: Scene;
  /** Colour of a variable of the style sheet. */
  readonly ink: (name: string) => string;
  /** Pixels of the canvas. */
  readonly width: number;
  readonly x: (ms: number) => number;
}

/** A bar narrower than `NARROW` pixels is hit from `MARGIN` pixels beside it, too. */
const NARROW = 2.5;
const MARGIN = 1.5;

/** The uppermost box at a point of the canvas; none in the margins of the drawing. */
export function boxAt(boxes: readonly Box[], x: number, y: number): Box | undefined {
  if (x < GUTTER || y < AXIS) return undefined;
  return boxes.findLast((box) => {
    const margin = box.width < NARROW ? MARGIN : 0;
    const isBeside = x < box.x - margin || x > box.x + box.width + margin;
    return !isBeside && y >= box.y && y <= box.y + box.height;
  });
}

/** Two lines for the tip beside the pointer. */
export function describe({ side, event, exposed }: Box, { operators }: PageCase): string {
  const [rank, what, start, end] = event === undefined ? side.exposed[exposed ?? 0] : side.events[event];
  const title = typeof what === "number" ? operators[what].name : `waiting for ${what}`;
  return `${title} · rank ${rank}, ${side.kind}\n${milliseconds(end - start)}`;
}
