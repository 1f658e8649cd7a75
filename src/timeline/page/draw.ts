/** Draws the tracks on a canvas. */
import { drawArrows } from "./arrows.js";
import { type PageSide, colourOf } from "./data.js";
import type { Group, Track } from "./layout.js";
import { AXIS, type Box, type Brush, GUTTER, type Scene, type Selection } from "./scene.js";
import { markDistance } from "./viewport.js";

/** @returns boxes of what can be seen, later ones above earlier ones */
export function draw(canvas: HTMLCanvasElement, scene: Scene, ink: Brush["ink"]): Box[] {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d") as CanvasRenderingContext2D;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const { layout, viewport } = scene;
  const x = (ms: number): number => GUTTER + ((ms - viewport.from) / viewport.span) * (width - GUTTER);
  const brush: Brush = { pen, scene, ink, width, x };
  const boxes: Box[] = [];

  pen.save();
  pen.beginPath();
  pen.rect(0, AXIS, width, height - AXIS);
  pen.clip();
  pen.translate(0, AXIS - viewport.scroll);
  pen.fillStyle = ink("--track");
  for (const group of layout.groups) pen.fillRect(GUTTER, group.y, width - GUTTER, group.height);
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, -1e4, width - GUTTER, 1e6);
  pen.clip();
  drawMarks(brush, layout.height, false);
  const onScreen = (y: number, h: number): boolean =>
    y + h > viewport.scroll && y < viewport.scroll + height - AXIS;
  const hatch = hatching(pen, ink("--exposed"));
  for (const group of layout.groups)
    if (onScreen(group.y, group.height)) boxes.push(...drawExposed(brush, group, hatch));
  const places = new Map<PageSide, Map<number, Box>>();
  for (const track of layout.tracks) {
    if (!onScreen(track.y, track.height)) continue;
    const drawn = drawTrack(brush, track);
    boxes.push(...drawn);
    const known = places.get(track.side) ?? new Map<number, Box>();
    for (const box of drawn) if (box.event !== undefined) known.set(box.event, box);
    places.set(track.side, known);
  }
  drawArrows(brush, places);
  pen.restore();
  drawLabels(brush);
  pen.restore();
  drawMarks(brush, AXIS, true);
  return boxes.map((box) => ({ ...box, y: box.y + AXIS - viewport.scroll }));
}

function drawLabels({ pen, scene: { layout }, ink }: Brush): void {
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

/** Lines down to `bottom`; or, with labels, short ones that end there. */
function drawMarks(
  { pen, scene: { viewport }, ink, width, x }: Brush,
  bottom: number,
  labels: boolean,
): void {
  const distance = markDistance(viewport.span, (width - GUTTER) / 90);
  const digits = Math.max(0, -Math.floor(Math.log10(distance) + 1e-9));
  pen.lineWidth = 1;
  pen.strokeStyle = ink("--rule");
  pen.fillStyle = ink("--faint");
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  for (let i = Math.ceil(viewport.from / distance); i * distance <= viewport.to; i++) {
    const px = Math.round(x(i * distance)) + 0.5;
    pen.beginPath();
    pen.moveTo(px, labels ? bottom - 6 : 0);
    pen.lineTo(px, bottom);
    pen.stroke();
    if (labels && px < width - 40) pen.fillText(`${(i * distance).toFixed(digits)} ms`, px + 4, 11);
  }
}

function drawExposed(
  { pen, scene: { viewport }, ink, x }: Brush,
  group: Group,
  hatch: CanvasPattern | null,
): Box[] {
  const boxes: Box[] = [];
  group.side.exposed.forEach(([rank, , start, end], exposed) => {
    if (rank !== group.rank || end < viewport.from || start > viewport.to) return;
    const [left, right] = [x(start), x(end)];
    const box = { x: left, y: group.y, width: Math.max(0.75, right - left), height: group.height };
    pen.globalAlpha = 0.16;
    pen.fillStyle = ink("--exposed");
    pen.fillRect(box.x, box.y, box.width, box.height);
    pen.globalAlpha = 0.75;
    if (hatch !== null) pen.fillStyle = hatch;
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

function drawTrack(brush: Brush, track: Track): Box[] {
  const { pen, scene, ink, x } = brush;
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
    const left = x(start);
    const width = Math.max(0.6, x(end) - left);
    const box = { x: left, y: track.y + track.lanes[i] * height, width, height, side: track.side, event };
    const isBackward = operator.pass === "backward";
    // Predicted bars are paler than measured ones, and shading must not show through them.
    const isPale = track.side.kind === "predicted" && shown.sides.length > 1;
    bar(brush, box, `--${colourOf(operator)}`, isPale);
    // The backward pass carries a darker foot, so that passes can be told apart without reading.
    if (isBackward && width > 2) {
      pen.fillStyle = ink("--backward");
      pen.fillRect(left, box.y + height - 3, Math.max(0.6, width - 0.75), 2.5);
    }
    label(brush, box, [operator.name, `${operator.class}${isBackward ? "'" : ""}`]);
    const isSame = (other: Selection | undefined): boolean =>
      other !== undefined && other.side === track.side && other.event === event;
    if (isSame(scene.selected) || isSame(scene.hovered)) {
      pen.strokeStyle = ink("--text");
      pen.lineWidth = isSame(scene.selected) ? 2 : 1;
      pen.strokeRect(left - 0.5, box.y, width + 1, height);
    }
    boxes.push(box);
  });
  return boxes;
}

function bar({ pen, ink }: Brush, { x, y, width, height }: Box, colour: string, isPale: boolean): void {
  const inner = Math.max(0.6, width - (width > 3 ? 0.75 : 0));
  const fill = (): void => {
    if (width > 6) pen.fill();
    else pen.fillRect(x, y + 0.5, inner, height - 1);
  };
  if (width > 6) {
    pen.beginPath();
    pen.roundRect(x, y + 0.5, inner, height - 1, 2.5);
  }
  if (isPale) {
    pen.fillStyle = ink("--card");
    fill();
    pen.globalAlpha = 0.68;
  }
  pen.fillStyle = ink(colour);
  fill();
  pen.globalAlpha = 1;
}

/** @param texts the first that fits is written */
function label({ pen, ink }: Brush, { x, y, width, height }: Box, texts: readonly string[]): void {
  const left = Math.max(x, GUTTER);
  const room = x + width - left - 8;
  if (room < 14 || height < 10) return;
  const text = texts.find((candidate) => pen.measureText(candidate).width <= room);
  if (text === undefined) return;
  pen.fillStyle = ink("--on-bar");
  pen.fillText(text, left + 4, y + height / 2 + 0.5);
}
