/** Draws the tracks on a canvas. */
import { drawArrows } from "./arrows.js";
import { type PageSide, colourOf } from "./data.js";
import type { Layout, Track } from "./layout.js";
import { AXIS, type Box, GUTTER, type Ink, type Scene, type Selection } from "./scene.js";
import { type Viewport, markDistance } from "./viewport.js";

/** @returns boxes of what can be seen, later ones above earlier ones */
export function draw(canvas: HTMLCanvasElement, scene: Scene, ink: Ink): Box[] {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d") as CanvasRenderingContext2D;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const { layout, viewport } = scene;
  const x = (ms: number): number => GUTTER + ((ms - viewport.from) / viewport.span) * (width - GUTTER);
  const boxes: Box[] = [];

  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS, width, height - AXIS);
  pen.clip();
  pen.translate(0, AXIS - viewport.scroll);
  drawGroups(pen, scene, width, ink);
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, -1e4, width - GUTTER, 1e6);
  pen.clip();
  drawMarks(pen, scene, { x, width, top: 0, bottom: layout.height, labels: false }, ink);
  const onScreen = (y: number, h: number): boolean =>
    y + h > viewport.scroll && y < viewport.scroll + height - AXIS;
  const hatch = hatching(pen, ink("--exposed"));
  for (const group of layout.groups)
    if (onScreen(group.y, group.height)) boxes.push(...drawExposed(pen, group, { x, viewport, hatch }, ink));
  const places = new Map<PageSide, Map<number, Box>>();
  for (const track of layout.tracks) {
    if (!onScreen(track.y, track.height)) continue;
    const drawn = drawTrack(pen, track, scene, x, ink);
    boxes.push(...drawn);
    const known = places.get(track.side) ?? new Map<number, Box>();
    for (const box of drawn) if (box.event !== undefined) known.set(box.event, box);
    places.set(track.side, known);
  }
  drawArrows(pen, scene, places, ink);
  pen.restore();
  drawLabels(pen, layout, ink);
  pen.restore();
  drawMarks(pen, scene, { x, width, top: 0, bottom: AXIS, labels: true }, ink);
  return boxes.map((box) => ({ ...box, y: box.y + AXIS - viewport.scroll }));
}

function drawGroups(pen: CanvasRenderingContext2D, { layout }: Scene, width: number, ink: Ink): void {
  for (const { y, height } of layout.groups) {
    pen.fillStyle = ink("--track");
    pen.fillRect(GUTTER, y, width - GUTTER, height);
  }
}

function drawLabels(pen: CanvasRenderingContext2D, layout: Layout, ink: Ink): void {
  pen.textBaseline = "middle";
  for (const { rank, side, y, height, isFirstOfRank } of layout.groups) {
    pen.textAlign = "left";
    if (isFirstOfRank) {
      pen.fillStyle = ink("--text");
      pen.font = "600 12px system-ui, sans-serif";
      pen.fillText(`rank ${rank}`, 12, y + Math.min(height / 4, 14) + 1);
    }
    pen.fillStyle = ink("--faint");
    pen.font = "11px system-ui, sans-serif";
    pen.fillText(side.kind, 12, y + height * (isFirstOfRank ? 0.75 : 0.5));
  }
  pen.textAlign = "right";
  pen.fillStyle = ink("--faint");
  pen.font = "10.5px system-ui, sans-serif";
  for (const { stream, y, height } of layout.tracks) pen.fillText(stream, GUTTER - 8, y + height / 2);
}

function drawMarks(
  pen: CanvasRenderingContext2D,
  { viewport }: Scene,
  at: { x: (ms: number) => number; width: number; top: number; bottom: number; labels: boolean },
  ink: Ink,
): void {
  const distance = markDistance(viewport.span, (at.width - GUTTER) / 90);
  const digits = Math.max(0, -Math.floor(Math.log10(distance) + 1e-9));
  pen.lineWidth = 1;
  pen.strokeStyle = ink("--rule");
  pen.fillStyle = ink("--faint");
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  for (let i = Math.ceil(viewport.from / distance); i * distance <= viewport.to; i++) {
    const px = Math.round(at.x(i * distance)) + 0.5;
    pen.beginPath();
    pen.moveTo(px, at.labels ? at.bottom - 6 : at.top);
    pen.lineTo(px, at.bottom);
    pen.stroke();
    if (at.labels && px < at.width - 40) pen.fillText(`${(i * distance).toFixed(digits)} ms`, px + 4, 11);
  }
}

function drawExposed(
  pen: CanvasRenderingContext2D,
  group: Layout["groups"][number],
  at: { x: (ms: number) => number; viewport: Viewport; hatch: CanvasPattern | null },
  ink: Ink,
): Box[] {
  const boxes: Box[] = [];
  group.side.exposed.forEach(([rank, , start, end], exposed) => {
    if (rank !== group.rank || end < at.viewport.from || start > at.viewport.to) return;
    const [left, right] = [at.x(start), at.x(end)];
    const box = { x: left, y: group.y, width: Math.max(0.75, right - left), height: group.height };
    pen.globalAlpha = 0.16;
    pen.fillStyle = ink("--exposed");
    pen.fillRect(box.x, box.y, box.width, box.height);
    pen.globalAlpha = 0.75;
    if (at.hatch !== null) pen.fillStyle = at.hatch;
    pen.fillRect(box.x, box.y, box.width, box.height);
    pen.globalAlpha = 1;
    boxes.push({ ...box, side: group.side, exposed });
  });
  return boxes;
}

function hatching(pen: CanvasRenderingContext2D, color: string): CanvasPattern | null {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const ink = tile.getContext("2d") as CanvasRenderingContext2D;
  ink.strokeStyle = color;
  ink.lineWidth = 1;
  ink.beginPath();
  for (const shift of [-6, 0, 6]) {
    ink.moveTo(shift, 6);
    ink.lineTo(shift + 6, 0);
  }
  ink.stroke();
  return pen.createPattern(tile, "repeat");
}

function drawTrack(
  pen: CanvasRenderingContext2D,
  track: Track,
  scene: Scene,
  x: (ms: number) => number,
  ink: Ink,
): Box[] {
  const { viewport, shown } = scene;
  const boxes: Box[] = [];
  const height = track.height / track.numLanes;
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  pen.font = `${Math.min(11.5, Math.max(8.5, height - 3))}px system-ui, sans-serif`;
  track.events.forEach((event, i) => {
    const [, index, start, end] = track.side.events[event];
    if (end < viewport.from || start > viewport.to) return;
    const operator = shown.operators[index];
    const [left, y] = [x(start), track.y + track.lanes[i] * height];
    const width = Math.max(0.6, x(end) - left);
    const isBackward = operator.pass === "backward";
    // Predicted bars are paler than measured ones, and shading must not show through them.
    const isPale = track.side.kind === "predicted" && shown.sides.length > 1;
    bar(
      pen,
      { x: left, y, width, height },
      isPale ? ink("--card") : undefined,
      ink(`--${colourOf(operator)}`),
    );
    // The backward pass carries a darker foot, so that passes can be told apart without reading.
    if (isBackward && width > 2) {
      pen.fillStyle = ink("--backward");
      pen.fillRect(left, y + height - 3, Math.max(0.6, width - 0.75), 2.5);
    }
    label(
      pen,
      [operator.name, `${operator.class}${isBackward ? "'" : ""}`],
      { left: Math.max(left, GUTTER), right: left + width, y: y + height / 2, height },
      ink,
    );
    const isSame = (other: Selection | undefined): boolean =>
      other !== undefined && other.side === track.side && other.event === event;
    if (isSame(scene.selected) || isSame(scene.hovered)) {
      pen.strokeStyle = ink("--text");
      pen.lineWidth = isSame(scene.selected) ? 2 : 1;
      pen.strokeRect(left - 0.5, y, width + 1, height);
    }
    boxes.push({ x: left, y, width, height, side: track.side, event });
  });
  return boxes;
}

function bar(
  pen: CanvasRenderingContext2D,
  { x, y, width, height }: Pick<Box, "x" | "y" | "width" | "height">,
  under: string | undefined,
  color: string,
): void {
  const inner = Math.max(0.6, width - (width > 3 ? 0.75 : 0));
  const fill = (): void => {
    if (width > 6) pen.fill();
    else pen.fillRect(x, y + 0.5, inner, height - 1);
  };
  if (width > 6) {
    pen.beginPath();
    pen.roundRect(x, y + 0.5, inner, height - 1, 2.5);
  }
  if (under !== undefined) {
    pen.fillStyle = under;
    fill();
    pen.globalAlpha = 0.68;
  }
  pen.fillStyle = color;
  fill();
  pen.globalAlpha = 1;
}

/** @param texts the first that fits is written */
function label(
  pen: CanvasRenderingContext2D,
  texts: readonly string[],
  at: { left: number; right: number; y: number; height: number },
  ink: Ink,
): void {
  const room = at.right - at.left - 8;
  if (room < 14 || at.height < 10) return;
  const text = texts.find((candidate) => pen.measureText(candidate).width <= room);
  if (text === undefined) return;
  pen.fillStyle = ink("--on-bar");
  pen.fillText(text, at.left + 4, at.y + 0.5);
}
