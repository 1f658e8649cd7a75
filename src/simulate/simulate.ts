/** Runs a schedule on a virtual clock, by the executor's rules. */
import { assert } from "../core/errors.js";
import { type Operator, type Program, dependencies } from "../program/program.js";
import type { Schedule } from "../schedule/schedule.js";
import type { Costs } from "./costs.js";
import { makeTimeline } from "./summary.js";
import type { ExposedInterval, Timeline, TimelineEvent } from "./timeline.js";

export interface SimulateOptions {
  /** Costs of each rank's operators. A transfer costs what its rank's port needs. */
  readonly costs: readonly Costs[];
  /** Added to each transfer, without occupying the link. */
  readonly latencyMs?: number;
}

interface RankState {
  readonly rank: number;
  readonly costs: Costs;
  clock: number;
  next: number;
  readonly issued: Float64Array;
}

/**
 * Ranks compute independently and meet in transfers: a transfer begins when every rank has issued it, and each
 * rank's part ends after its port has carried it. A rank issues transfers between compute operators, as the executor does.
 */
export function simulate(program: Program, schedule: Schedule, options: SimulateOptions): Timeline {
  const numRanks = options.costs.length;
  const waitsFor = dependencies(program).map((ids) => [...ids]);
  for (const [before, after] of schedule.edges) waitsFor[after].push(before);
  const { compute, network } = schedule.order;
  const count = program.operators.length;
  const ends = Array.from({ length: numRanks }, () => new Float64Array(count).fill(Infinity));
  const events: TimelineEvent[] = [];
  const exposed: ExposedInterval[] = [];
  const ranks: RankState[] = options.costs.map((costs, rank) => ({
    rank,
    costs,
    clock: 0,
    next: 0,
    issued: new Float64Array(count).fill(Infinity),
  }));
  const portFree = new Float64Array(numRanks);
  const nextIssue = new Int32Array(numRanks);
  let nextTransfer = 0;

  const readyAt = (rank: number, id: number): number => {
    let latest = 0;
    for (const before of waitsFor[id]) latest = Math.max(latest, ends[rank][before]);
    return latest;
  };
  /** Transfers whose inputs exist now are issued, in the order of the stream. */
  const issue = (state: RankState): void => {
    while (nextIssue[state.rank] < network.length) {
      const id = network[nextIssue[state.rank]];
      if (readyAt(state.rank, id) > state.clock) return;
      state.issued[id] = state.clock;
      nextIssue[state.rank]++;
    }
  };
  const record = (op: Operator, rank: number, startMs: number, endMs: number): void => {
    ends[rank][op.id] = endMs;
    const bytes = op.stream === "network" ? program.values[op.writes[0] ?? 0]?.bytes : undefined;
    const { stream, id, name, cost, pass, layer } = op;
    events.push({ rank, stream, operator: id, name, cost, pass, layer, startMs, endMs, bytes });
  };
  /** The next transfer, once every rank has issued it. */
  const transfer = (): boolean => {
    if (nextTransfer >= network.length) return false;
    const op = program.operators[network[nextTransfer]];
    let begin = 0;
    for (const state of ranks) begin = Math.max(begin, state.issued[op.id]);
    if (begin === Infinity) return false;
    nextTransfer++;
    for (const { rank, costs, issued } of ranks) {
      const start = Math.max(begin, portFree[rank]);
      portFree[rank] = start + costs(op);
      record(op, rank, issued[op.id], portFree[rank] + (options.latencyMs ?? 0));
    }
    return true;
  };
  /** One compute operator of a rank, or time passing until it can go on. */
  const advance = (state: RankState): boolean => {
    issue(state);
    const id = compute[state.next];
    const ready = id === undefined ? Infinity : readyAt(state.rank, id);
    if (ready > state.clock) {
      // Standing still, the rank wakes at every arrival and may issue what that arrival allows.
      const wake = Math.min(ready, nextArrival(state));
      if (wake === Infinity) return false;
      const name = id === undefined ? "the end of the step" : program.operators[id].name;
      exposed.push({ rank: state.rank, waitingFor: name, startMs: state.clock, endMs: wake });
      state.clock = wake;
      return true;
    }
    const op = program.operators[id];
    const start = state.clock;
    state.clock += state.costs(op);
    record(op, state.rank, start, state.clock);
    state.next++;
    return true;
  };
  const nextArrival = (state: RankState): number => {
    // A port carries one transfer after another, so arrivals are in order: the first that is still to come.
    let earliest = Infinity;
    for (let i = nextTransfer - 1; i >= 0 && ends[state.rank][network[i]] > state.clock; i--)
      earliest = ends[state.rank][network[i]];
    return earliest;
  };

  for (let moved = true; moved;) {
    moved = false;
    for (const state of ranks) while (advance(state)) moved = true;
    while (transfer()) moved = true;
  }
  assert(
    events.length === count * numRanks,
    `the schedule deadlocks: ${events.length} of ${count * numRanks} operators ran`,
  );
  return makeTimeline("predicted", numRanks, events, exposed);
}
