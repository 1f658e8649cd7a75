/** Arrows along the rows' way, from the end of a bar to the start of the next. */
import type { PageSide } from "./data.js";
import type { Box, Brush } from "./scene.js";

/** Beyond this many arrows a picture shows only those of what is selected or under the pointer. */
const MOST_ARROWS = 60;

/** @param places the bars on the screen, of each side, by event */
export function drawArrows(
  { pen, scene, ink }: Brush,
  places: ReadonlyMap<PageSide, ReadonlyMap<number, Box>>,
): void {
  for (const [side, boxes] of places) {
    const touches = (event: number): boolean =>
      [scene.selected, scene.hovered].some((s) => s !== undefined && s.side === side && s.event === event);
    const seen = side.flows.filter(([from, to]) => boxes.has(from) && boxes.has(to));
    const experts = new Set(seen.filter((flow) => flow.some(touches)).flat());
    const wide = seen.filter(
      ([from, to]) => (boxes.get(from) as Box).width + (boxes.get(to) as Box).width > 16,
    );
    const all = scene.arrows && wide.length <= MOST_ARROWS ? new Set(wide) : new Set();
    for (const flow of seen) {
      const isNear = flow.some((event) => experts.has(event)) && flow.some(touches);
      if (!isNear && !all.has(flow)) continue;
      arrow(pen, boxes.get(flow[0]) as Box, boxes.get(flow[1]) as Box, ink(isNear ? "--text" : "--arrow"));
    }
  }
}

function arrow(pen: CanvasRenderingContext2D, from: Box, to: Box, color: string): void {
  // Across the border between their tracks.
  const down = to.y > from.y;
  const [x0, y0] = [from.x + from.width - 1, down ? from.y + from.height - 2 : from.y + 2];
  const [x1, y1] = [to.x + 1, down ? to.y + 2 : to.y + to.height - 2];
  const bend = Math.max(8, Math.min(60, Math.abs(x1 - x0) / 2));
  pen.strokeStyle = pen.fillStyle = color;
  pen.lineWidth = 1.25;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.bezierCurveTo(x0 + bend, y0 + (down ? 6 : -6), x1 - bend, y1 + (down ? -6 : 6), x1, y1);
  pen.stroke();
  pen.beginPath();
  pen.moveTo(x1 + 3, y1 + (down ? 3 : -3));
  pen.lineTo(x1 - 4, y1 + (down ? 1 : -1));
  pen.lineTo(x1 + 1, y1 + (down ? -4 : 4));
  pen.fill();
}
