/** A self-contained page: ranks × streams, measured over predicted, exposed communication shaded, zoom and pan. */
import type { TitledTimelines } from "./chrome-trace.js";
import { escapeXml } from "./speed-chart.js";
import { PAGE_SCRIPT, PAGE_STYLE } from "./timeline-page.js";

export function timelineHtml(steps: readonly TitledTimelines[]): string {
  // Inside a script element only "</" could end it early.
  const data = JSON.stringify(steps.map(compact)).replaceAll("</", "<\\/");
  const options = steps.map((step, i) => `<option value="${i}">${escapeXml(step.title)}</option>`).join("");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>scmoe timeline</title>
<style>${PAGE_STYLE}</style>
<header>
  <label>Step <select id="step">${options}</select></label>
  <button id="reset" type="button">Whole step</button>
  <span>wheel: zoom · drag: pan · hover: details</span>
</header>
<main>
  <canvas id="canvas" tabindex="0" aria-label="Timeline of the chosen step"></canvas>
  <aside id="panel"></aside>
</main>
<div id="tip" role="tooltip" hidden></div>
<script id="data" type="application/json">${data}</script>
<script>${PAGE_SCRIPT}</script>
</html>
`;
}

/** Only what the page draws, times to the microsecond. */
function compact(step: TitledTimelines): unknown {
  const round = (ms: number): number => Math.round(ms * 1e3) / 1e3;
  const side = (timeline: TitledTimelines["measured"]) => ({
    numRanks: timeline.numRanks,
    summary: timeline.summary,
    events: timeline.events.map((e) => [
      e.rank,
      e.stream,
      e.name,
      round(e.startMs),
      round(e.endMs),
      e.bytes ?? 0,
      e.pass,
    ]),
    exposed: timeline.exposed.map((e) => [e.rank, e.waitingFor, round(e.startMs), round(e.endMs)]),
  });
  return { title: step.title, measured: side(step.measured), predicted: side(step.predicted) };
}
