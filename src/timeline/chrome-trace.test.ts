import { expect, it } from "vitest";
import { makeTimeline } from "./summary.js";
import type { TimelineEvent } from "./timeline.js";
import { chromeTrace, flows } from "./chrome-trace.js";

const run = (
  of: "dispatch" | "expert" | "combine",
  startMs: number,
  more: Partial<TimelineEvent> = {},
): TimelineEvent => ({
  rank: 0,
  operator: 0,
  stream: of === "expert" ? "compute" : "network",
  name: `a name that says nothing, ${startMs}`,
  cost: "",
  class: of,
  branch: "L1",
  pass: "forward",
  startMs,
  endMs: startMs + 1,
  ...more,
});

const BACK = { pass: "backward" } as const;

it("rows flow dispatch → expert → combine, and back again in the backward pass", () => {
  const forward = [run("dispatch", 0, { bytes: 8 }), run("expert", 1), run("combine", 2)];
  const backward = [run("combine", 3, BACK), run("expert", 4, BACK), run("dispatch", 5, BACK)];
  const arrows = [0, 1, 2].map((i) => [i, i + 1]).filter(([from]) => from !== 2);
  expect(flows([...forward, ...backward])).toEqual([...arrows, [3, 4], [4, 5]]);
});

it("follows an operator run by run when micro-batches repeat it, and halves of a split backward once", () => {
  const once = [run("dispatch", 0), run("expert", 1), run("combine", 2)];
  const again = once.map((e) => ({ ...e, startMs: e.startMs + 10, endMs: e.endMs + 10 }));
  expect(flows([...once, ...again])).toEqual([
    [0, 1],
    [1, 2],
    [3, 4],
    [4, 5],
  ]);
  const halves = [
    run("expert", 4, { ...BACK, half: "input" }),
    run("expert", 6, { ...BACK, half: "weight" }),
  ];
  expect(flows([run("combine", 3, BACK), ...halves, run("dispatch", 5, BACK)])).toEqual([
    [0, 1],
    [1, 3],
  ]);
});

it("keeps chunks, branches and ranks apart", () => {
  const way = (more: Partial<TimelineEvent>) => [
    run("dispatch", 0, more),
    run("expert", 1, more),
    run("combine", 2, more),
  ];
  const ways = [{ chunk: 0 }, { chunk: 1 }, { chunk: 0, branch: "L1.previous" }, { chunk: 0, rank: 1 }].map(
    way,
  );
  // All dispatches, then all experts in the opposite order, then all combines.
  const [down, experts, back] = [0, 1, 2].map((i) => ways.map((events) => events[i]));
  expect(flows([...down, ...experts.toReversed(), ...back]).sort(([a], [b]) => a - b)).toEqual([
    [0, 7],
    [1, 6],
    [2, 5],
    [3, 4],
    [4, 11],
    [5, 10],
    [6, 9],
    [7, 8],
  ]);
});

it("puts predicted ranks after measured ones, and counts bytes under way down to nothing", () => {
  const events = [run("dispatch", 0, { bytes: 8 }), run("dispatch", 0.5, { rank: 1, bytes: 4 })];
  const measured = makeTimeline("measured", 2, events, []);
  const predicted = makeTimeline("predicted", 2, events, []);
  const { traceEvents } = chromeTrace([{ title: "step", measured, predicted }]);
  const pids = traceEvents.filter((e) => e.ph === "X").map((e) => e.pid);
  expect(pids).toEqual([0, 1, 2, 3]);
  const counted = traceEvents.filter((e) => e.ph === "C" && e.pid === 1).map((e) => e.args?.bytes);
  expect(counted).toEqual([4, 0]);
  const alone = chromeTrace([{ title: "step", predicted }]).traceEvents.filter((e) => e.ph === "X");
  expect(alone.map((e) => e.pid)).toEqual([0, 1]);
});
