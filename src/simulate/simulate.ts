/** Runs a schedule on a virtual clock, by the executor's rules. */
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { type ClockWatcher, runClock } from "./clock.js";
import { type Costs, costArray } from "./costs.js";
import type { Network } from "./network.js";
import { StepTally } from "../timeline/summary.js";
import {
  type ExposedInterval,
  type Timeline,
  type TimelineEvent,
  eventOperator,
} from "../timeline/timeline.js";

/** What a simulated step costs on each rank, and the network between them. */
export interface SimulateOptions {
  /** Costs of each rank's operators. Without a network, a transfer costs what its rank's only port needs. */
  readonly costs: readonly Costs[];
  readonly network?: Network;
  /** Ranks whose events the timeline keeps, default all: a thousand ranks' summary is wanted more often than their events. */
  readonly eventsOf?: readonly number[];
}

/** The step as the simulator expects it; the rules are those of `runClock`. */
export function simulate(program: Program, schedule: Schedule, options: SimulateOptions): Timeline {
  const { costs, network, eventsOf } = options;
  const tables = new Map<Costs, Float64Array>();
  for (const of of costs) if (!tables.has(of)) tables.set(of, costArray(program, of));
  const recorder = new Recorder(program, costs.length, eventsOf);
  const stepMs = runClock(program, schedule, {
    costs: costs.map((of) => tables.get(of) as Float64Array),
    network,
    watch: recorder,
  });
  return {
    kind: "predicted",
    numRanks: costs.length,
    events: recorder.events,
    exposed: recorder.exposed,
    summary: recorder.tally.summary(stepMs),
  };
}

class Recorder implements ClockWatcher {
  readonly events: TimelineEvent[] = [];
  readonly exposed: ExposedInterval[] = [];
  readonly tally: StepTally;
  readonly #kept: ReadonlySet<number> | undefined;

  constructor(
    readonly program: Program,
    numRanks: number,
    eventsOf: readonly number[] | undefined,
  ) {
    this.tally = new StepTally(numRanks);
    this.#kept = eventsOf === undefined ? undefined : new Set(eventsOf);
  }

  ran(op: Operator, rank: number, startMs: number, endMs: number, issuedMs?: number): void {
    const { stream } = op;
    const bytes = stream === "network" ? op.work.bytes : undefined;
    this.tally.ran(rank, { stream, bytes, issuedMs, startMs, endMs });
    if (this.#kept !== undefined && !this.#kept.has(rank)) return;
    const event = { rank, ...eventOperator(op), startMs, endMs, bytes };
    this.events.push(issuedMs === undefined ? event : { ...event, issuedMs });
  }

  stoodStill(waitingFor: number | undefined, rank: number, startMs: number, endMs: number): void {
    this.tally.stoodStill(rank, startMs, endMs);
    if (this.#kept !== undefined && !this.#kept.has(rank)) return;
    const name = waitingFor === undefined ? "the end of the step" : this.program.operators[waitingFor].name;
    this.exposed.push({ rank, waitingFor: name, startMs, endMs });
  }
}
