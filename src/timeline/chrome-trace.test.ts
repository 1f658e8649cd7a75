import { expect, it } from "vitest";
import { makeTimeline } from "./summary.js";
import type { TimelineEvent } from "./timeline.js";
import { chromeTrace, flows } from "./chrome-trace.js";

const run = (name: string, startMs: number, more: Partial<TimelineEvent> = {}): TimelineEvent => ({
  rank: 0,
  operator: 0,
  stream: /dispatch|combine/.test(name) ? "network" : "compute",
  name,
  cost: name.replace(/^L\d+\./, ""),
  pass: name.includes("'") ? "backward" : "forward",
  startMs,
  endMs: startMs + 1,
  ...more,
});

it("rows flow dispatch → expert → combine, and back again in the backward pass", () => {
  const forward = [run("L1.dispatch", 0, { bytes: 8 }), run("L1.expert", 1), run("L1.combine", 2)];
  const backward = [run("L1.combine'", 3), run("L1.expert'", 4), run("L1.dispatch'", 5)];
  const arrows = [0, 1, 2].map((i) => [i, i + 1]).filter(([from]) => from !== 2);
  expect(flows([...forward, ...backward])).toEqual([...arrows, [3, 4], [4, 5]]);
});

it("follows an operator run by run when micro-batches repeat it, and halves of a split backward once", () => {
  const once = [run("L1.dispatch", 0), run("L1.expert", 1), run("L1.combine", 2)];
  const again = once.map((e) => ({ ...e, startMs: e.startMs + 10, endMs: e.endMs + 10 }));
  expect(flows([...once, ...again])).toEqual([
    [0, 1],
    [1, 2],
    [3, 4],
    [4, 5],
  ]);
  const halves = [run("L1.expert'", 4, { cost: "expert'i" }), run("L1.expert'w", 6, { cost: "expert'w" })];
  expect(flows([run("L1.combine'", 3), ...halves, run("L1.dispatch'", 5)])).toEqual([
    [0, 1],
    [1, 3],
  ]);
});

it("puts predicted ranks after measured ones, and counts bytes under way down to nothing", () => {
  const events = [run("L1.dispatch", 0, { bytes: 8 }), run("L1.dispatch", 0.5, { rank: 1, bytes: 4 })];
  const measured = makeTimeline("measured", 2, events, []);
  const predicted = makeTimeline("predicted", 2, events, []);
  const { traceEvents } = chromeTrace([{ title: "step", measured, predicted }]);
  const pids = traceEvents.filter((e) => e.ph === "X").map((e) => e.pid);
  expect(pids).toEqual([0, 1, 2, 3]);
  const counted = traceEvents.filter((e) => e.ph === "C" && e.pid === 1).map((e) => e.args?.bytes);
  expect(counted).toEqual([4, 0]);
  const plan = chromeTrace([{ title: "step", predicted }]).traceEvents.filter((e) => e.ph === "X");
  expect(plan.map((e) => e.pid)).toEqual([0, 1]);
});
