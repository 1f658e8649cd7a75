import { expect, it } from "vitest";
import { chromeTrace } from "./chrome-trace.js";
import { stepLanes } from "./step-lanes.js";
import { makeTimeline } from "./summary.js";
import type { Timeline, TimelineEvent } from "./timeline.js";

const event = (
  rank: number,
  stream: TimelineEvent["stream"],
  startMs: number,
  endMs: number,
): TimelineEvent => ({
  ...{ rank, stream, startMs, endMs, operator: 0, name: "op", cost: "", pass: "forward" },
  class: stream === "network" ? "dispatch" : "expert",
  ...(stream === "network" ? { bytes: 8 } : {}),
});

const timeline = (kind: Timeline["kind"], events: readonly TimelineEvent[]): Timeline =>
  makeTimeline(kind, 2, events, [{ rank: 0, waitingFor: "op", startMs: 2, endMs: 4 }]);

const MEASURED = timeline("measured", [
  event(0, "compute", 4, 6),
  event(0, "compute", 0, 1),
  event(0, "compute", 1, 2),
  event(0, "network", 2, 4),
  // Two at a time: the network is taken from the first's start to the second's end.
  event(0, "network", 5, 7),
  event(0, "network", 6, 8),
  event(1, "compute", 0, 3),
]);
const PREDICTED = timeline("predicted", [event(0, "compute", 0, 1), event(1, "compute", 0, 1)]);

it("reads lanes of a rank back from a trace: what was measured, of the first step", () => {
  const steps = [
    { title: "first", measured: MEASURED, predicted: PREDICTED },
    { title: "second", measured: MEASURED, predicted: PREDICTED },
  ];
  // As it comes from a file.
  const trace = JSON.parse(JSON.stringify(chromeTrace(steps))) as ReturnType<typeof chromeTrace>;
  expect(stepLanes(trace, 0)).toEqual({
    compute: [
      { start: 0, end: 2 },
      { start: 4, end: 6 },
    ],
    network: [
      { start: 2, end: 4 },
      { start: 5, end: 8 },
    ],
    waiting: [{ start: 2, end: 4 }],
    stepMs: 8,
  });
  expect(stepLanes(trace, 1)).toMatchObject({ compute: [{ start: 0, end: 3 }], network: [], stepMs: 3 });
});

it("takes what is predicted where nothing was measured, and is empty for a rank that is not there", () => {
  const trace = chromeTrace([{ title: "plan", predicted: PREDICTED }]);
  expect(stepLanes(trace, 0).compute).toEqual([{ start: 0, end: 1 }]);
  expect(stepLanes(trace, 7)).toEqual({ compute: [], network: [], waiting: [], stepMs: 0 });
});
