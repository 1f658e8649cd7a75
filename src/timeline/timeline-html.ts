/** A self-contained page: ranks × streams, measured over predicted, exposed communication shaded, zoom and pan. */
import { PAGE_SCRIPT } from "#page-script";
import type { Timeline, TimelineEvent } from "./timeline.js";
import { type TitledTimelines, flows } from "./chrome-trace.js";
import type { PageCase, PageData, PageOperator, PageSide } from "./page/data.js";
import { TIMELINE_STYLE } from "./timeline-style.js";

/** A step under a name: measured, predicted, or both. */
export type ShownStep = Pick<TitledTimelines, "title"> & Partial<TitledTimelines>;

/** One HTML document that needs nothing else. Its script is what `scripts/build.mjs` bundles from `page/`. */
export function timelineHtml(steps: readonly ShownStep[]): string {
  const data: PageData = { cases: steps.map(pageCase) };
  // Inside a script element only "</" could end it early.
  const json = JSON.stringify(data).replaceAll("</", "<\\/");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>scmoe timeline</title>
<style>${TIMELINE_STYLE}</style>
<header>
  <h1>Step timeline<span id="only"></span></h1>
  <label id="cases">case <select id="case"></select></label>
  <span class="space"></span>
  <label><input type="checkbox" id="measured" checked>measured</label>
  <label><input type="checkbox" id="predicted" checked>predicted</label>
  <label><input type="checkbox" id="arrows" checked>arrows</label>
  <span class="buttons">
    <button type="button" id="out" aria-label="Zoom out">−</button>
    <button type="button" id="in" aria-label="Zoom in">+</button>
    <button type="button" id="fit">Whole step</button>
  </span>
</header>
<div id="figures"></div>
<div id="legend"></div>
<main>
  <canvas id="canvas" tabindex="0" role="application" aria-label="Timeline: ranks by streams. Arrow keys move, plus and minus zoom, n and p go from operator to operator; the panel tells what is selected."></canvas>
  <aside>
    <div id="selection" aria-live="polite"></div>
    <div id="step"></div>
  </aside>
</main>
<div id="tip" role="tooltip" hidden></div>
<template id="nothing"><section><h2>Nothing selected</h2><p>Click an operator or a shaded wait. Wheel zooms, dragging moves, shift + wheel moves sideways.</p><p class="keys"><kbd>←</kbd> <kbd>→</kbd> move · <kbd>+</kbd> <kbd>−</kbd> zoom · <kbd>0</kbd> whole step · <kbd>n</kbd> <kbd>p</kbd> next, previous operator · <kbd>Enter</kbd> zoom to it · <kbd>Esc</kbd> nothing selected</p></section></template>
<script id="data" type="application/json">${json}</script>
<script>${PAGE_SCRIPT}</script>
</html>
`;
}

/** Only what the page draws; times to the microsecond. */
function pageCase({ title, measured, predicted }: ShownStep): PageCase {
  const operators: PageOperator[] = [];
  const indices = new Map<string, number>();
  const indexOf = ({ name, class: ofClass, stream, pass }: TimelineEvent): number => {
    let index = indices.get(name);
    if (index === undefined) {
      indices.set(name, (index = operators.length));
      operators.push({ name, class: ofClass, stream, pass });
    }
    return index;
  };
  const side = (timeline: Timeline): PageSide => ({
    kind: timeline.kind,
    summary: timeline.summary,
    events: timeline.events.map((e) => [
      e.rank,
      indexOf(e),
      microseconds(e.startMs),
      microseconds(e.endMs),
      e.bytes ?? 0,
    ]),
    exposed: timeline.exposed.map((e) => [
      e.rank,
      e.waitingFor,
      microseconds(e.startMs),
      microseconds(e.endMs),
    ]),
    flows: flows(timeline.events),
  });
  const shown = [measured, predicted].filter((timeline) => timeline !== undefined);
  const numRanks = Math.max(0, ...shown.map((timeline) => timeline.numRanks));
  return { title, numRanks, operators, sides: shown.map(side) };
}

function microseconds(ms: number): number {
  return Math.round(ms * 1e3) / 1e3;
}
