import fc from "fast-check";
import { expect, it } from "vitest";
import { plan } from "../plan.js";
import { makeTimeline } from "./summary.js";
import type { TimelineEvent } from "./timeline.js";
import { type TraceEvent, chromeTrace, flows } from "./chrome-trace.js";
import { layOut } from "./page/layout.js";
import type { PageCase } from "./page/data.js";

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

/** Pairs of complete events on one thread of which one begins within the other and ends after it. */
function crossings(events: readonly TraceEvent[]): string[] {
  const found: string[] = [];
  const open = new Map<string, { name: string; end: number }>();
  const complete = events
    .filter(({ ph }) => ph === "X")
    .map((e) => ({ ...e, ts: e.ts ?? 0, dur: e.dur ?? 0 }));
  for (const { pid, tid, name, ts, dur } of complete.sort((a, b) => a.ts - b.ts || b.dur - a.dur)) {
    const before = open.get(`${pid} ${tid}`);
    if (before !== undefined && ts < before.end && ts + dur > before.end)
      found.push(`${before.name} and ${name}`);
    if (before === undefined || ts >= before.end) open.set(`${pid} ${tid}`, { name, end: ts + dur });
  }
  return found;
}

it("no two events of a thread cross, whatever is under way at the same time", () => {
  const time = fc.double({ min: 0, max: 50, noNaN: true });
  const event = fc.record({
    of: fc.constantFrom("dispatch" as const, "expert" as const),
    rank: fc.nat(1),
    start: time,
    length: time,
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), (list) => {
      const events = list.map(({ of, rank, start, length }) =>
        run(of, start, { rank, endMs: start + length, bytes: 4 }),
      );
      // One after another, to the last bit: an end is the next one's start.
      let at = 0.1;
      for (const { length } of list) events.push(run("expert", at, { rank: 2, endMs: (at += length / 7) }));
      const exposed = list.map(({ start, length }) => ({
        rank: 0,
        waitingFor: "x",
        startMs: start,
        endMs: start + length,
      }));
      const predicted = makeTimeline("predicted", 3, events, exposed);
      const steps = [
        { title: "one", predicted },
        { title: "two", predicted },
      ];
      const { traceEvents } = chromeTrace(steps);
      expect(crossings(traceEvents)).toEqual([]);
      const ofCompute = traceEvents.filter((e) => e.ph === "X" && e.pid === 2);
      expect(new Set(ofCompute.map(({ tid }) => tid)).size).toBeLessThanOrEqual(1);
    }),
  );
});

it("transfers of a simulated step on 8 ranks have lanes with names, in the trace and on the page", () => {
  const { rows } = plan({
    model: "gpt2-moe-small",
    cluster: "8xA30-PCIe",
    cases: [{ arch: "scmoe-pos2", policy: "adaptive(4)" }],
    imbalance: 2,
    steps: 1,
  });
  const { timeline } = rows[0];
  const { traceEvents } = chromeTrace([{ title: "step", predicted: timeline }]);
  expect(crossings(traceEvents)).toEqual([]);
  const named = new Map(
    traceEvents.filter((e) => e.name === "thread_name").map((e) => [`${e.pid} ${e.tid}`, e.args?.name]),
  );
  const used = new Set(traceEvents.filter((e) => e.ph === "X").map((e) => named.get(`${e.pid} ${e.tid}`)));
  expect([...used]).toEqual(expect.arrayContaining(["compute", "exposed", "network", "network 2"]));
  for (const name of used) expect(name).toMatch(/^(compute|exposed|network( \d)?)$/);
});

it("the page, too, gives everything under way at the same time a lane that is seen", () => {
  const operators = [{ name: "x", class: "dispatch", stream: "network", pass: "forward" }] as const;
  const events = Array.from({ length: 9 }, (_, i) => [0, 0, i, 20 + i, 0] as const);
  const { summary } = makeTimeline("predicted", 1, [], []);
  const side = { kind: "predicted", summary, events, exposed: [], flows: [] } as const;
  const shown: PageCase = { title: "", numRanks: 1, operators, sides: [side] };
  const { tracks, groups, height } = layOut(shown, new Set(["predicted"]), 100);
  const network = tracks.find(({ stream }) => stream === "network");
  expect([network?.numLanes, new Set(network?.lanes).size]).toEqual([9, 9]);
  expect((network?.height ?? 0) / 9).toBeGreaterThanOrEqual(4);
  expect(groups[0].y + groups[0].height).toBeLessThanOrEqual(height);
});
