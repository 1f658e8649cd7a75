/**
 * Schedules of one kind of step (prefill, decode): by the policy's own guess until a few of them have been measured, then by costs that
 * all ranks agree on. All ranks take part in the same steps, so they ask at the same ones.
 */
import { broadcastJson, gatherJson } from "../../comm/collectives.js";
import type { Communicator } from "../../comm/communicator.js";
import type { Program } from "../../program/program.js";
import type { Schedule } from "../../program/schedule.js";
import type { RunResult } from "../../run/execution.js";
import type { Policy } from "../../schedule/policy.js";
import { type Costs, MeasuredCosts, agreedCosts, estimatedCosts } from "../../simulate/costs.js";

/** Runs of which the first compiled or touched memory for the first time; after so many the operators are placed. */
const WARM_RUNS = 2;
const PLACING_RUN = 8;

export class PhasePlacer {
  readonly #measured = new MeasuredCosts();
  #runs = 0;
  #schedule: Schedule;
  #costs: Costs | undefined;

  /** @param world all ranks, which do this at the same time */
  constructor(
    readonly program: Program,
    readonly policy: Policy,
    readonly world: Communicator,
  ) {
    this.#schedule = this.#place(undefined);
  }

  get schedule(): Schedule {
    return this.#schedule;
  }

  /** What operators cost, once that is known: what a simulation of the phase takes. */
  get costs(): Costs | undefined {
    return this.#costs;
  }

  remember({ events }: Pick<RunResult, "events">): void {
    if (this.world.size === 1) return;
    this.#runs++;
    if (this.#runs > PLACING_RUN) return;
    if (this.#runs > WARM_RUNS) this.#measured.add(events);
    if (this.#runs < PLACING_RUN) return;
    const table = agreedCosts(gatherJson(this.world, this.#measured.typical(), "costs"));
    this.#costs = estimatedCosts(table, [this.program], () => undefined);
    if (this.policy.usesCosts) this.#schedule = this.#place(this.#costs);
  }

  /** Rank 0 makes a schedule, every rank has it. */
  #place(costs: Costs | undefined): Schedule {
    const made = this.world.rank === 0 ? this.policy.schedule(this.program, costs) : undefined;
    return broadcastJson(this.world, made, 0, "schedule");
  }
}
