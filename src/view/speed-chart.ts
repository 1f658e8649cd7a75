/** Bars of step times, exposed communication hatched, as a self-contained SVG. */
export interface ChartRow {
  readonly arch: string;
  readonly policy: string;
  readonly mode: string;
  readonly stepMs: number;
  readonly exposedMs: number;
}

const [BAR, GAP, LEFT, RIGHT, TOP] = [22, 8, 260, 90, 30];
const WIDTH = 860;

export function speedChart(rows: readonly ChartRow[]): string {
  const longest = Math.max(...rows.map((row) => row.stepMs));
  const scale = (WIDTH - LEFT - RIGHT) / longest;
  const height = TOP + rows.length * (BAR + GAP) + 10;
  const bars = rows.map((row, i) => {
    const y = TOP + i * (BAR + GAP);
    const [whole, exposed] = [row.stepMs * scale, Math.min(row.exposedMs, row.stepMs) * scale];
    const text = (x: number, content: string, anchor: string): string =>
      `<text x="${x.toFixed(1)}" y="${y + BAR - 6}" text-anchor="${anchor}">${escapeXml(content)}</text>`;
    return [
      text(LEFT - 8, `${row.mode} · ${row.arch} · ${row.policy}`, "end"),
      `<rect x="${LEFT}" y="${y}" width="${(whole - exposed).toFixed(1)}" height="${BAR}" fill="#3b6ea5"/>`,
      `<rect x="${(LEFT + whole - exposed).toFixed(1)}" y="${y}" width="${exposed.toFixed(1)}" height="${BAR}" fill="#d9822b"/>`,
      text(LEFT + whole + 6, `${row.stepMs.toFixed(1)} ms`, "start"),
    ].join("");
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${LEFT}" y="18">step time; orange: waiting for the network</text>`,
    ...bars,
    "</svg>",
  ].join("\n");
}

export function escapeXml(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] as string,
  );
}
