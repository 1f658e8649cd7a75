/** What our SVG pictures have in common. Their colours follow the reader's light or dark system. */

export const SVG_STYLE = `
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1a2230; font-variant-numeric: tabular-nums; }
.page { fill: #fff; } .title { font-size: 17px; font-weight: 650; } .mode { font-weight: 620; } .faint { fill: #5f6b7d; font-size: 12px; }
.work { fill: #3f6fb5; } .wait { fill: #f6c9cf; } .line { stroke: #d3263f; stroke-width: 2.4; } .rule { stroke: #e2e6ed; }
@media (prefers-color-scheme: dark) {
  text { fill: #e8ecf2; } .page { fill: #1a2029; } .faint { fill: #97a3b4; } .work { fill: #4a7fcb; } .wait { fill: #4a2831; }
  .line { stroke: #ff5d73; } .rule { stroke: #313b4a; }
}`;

/** For `fill="url(#hatch)"`: waiting for the network. */
export const HATCH = `<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="wait" width="6" height="6"/><path class="line" d="M0 0V6"/></pattern></defs>`;

/** A whole document of this size in pixels: its page, then the parts. @param style beside `SVG_STYLE` */
export function svgDocument(
  { width, height, label, style }: { width: number; height: number; label: string; style: string },
  parts: readonly string[],
): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(label)}">`,
    `<style>${SVG_STYLE}${style}</style>`,
    HATCH,
    `<rect class="page" width="${width}" height="${height}" rx="10"/>`,
    ...parts,
    "</svg>",
  ].join("\n");
}

export function escapeXml(text: string): string {
  return text.replace(
    /[&<>"]/g,
    (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] as string,
  );
}

/** Round numbers from `from` to `to`, both inclusive: about `count` of them, 1, 2 or 5 times a power of ten apart. */
export function ticks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / count;
  if (!(rough > 0) || !Number.isFinite(rough)) return [from];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough * 0.999) ?? 10);
  const first = Math.ceil(from / step - 1e-9);
  const last = Math.floor(to / step + 1e-9);
  // From whole numbers, so that 0.3 is not 0.30000000000000004.
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
