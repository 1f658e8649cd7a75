/** timeline.json and timeline.html of a run directory: a typical recent step of all ranks, measured over predicted. */
import { join } from "node:path";
import { gatherJson } from "../comm/collectives.js";
import type { Communicator } from "../comm/communicator.js";
import { type MeasuredRun, clockOffset, gatherTimeline } from "../run/gather-timeline.js";
import { MeasuredCosts, agreedCosts, tableCosts } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { joinTimelines } from "../timeline/summary.js";
import type { Timeline } from "../timeline/timeline.js";
import { replaceFile } from "../storage/files.js";
import { chromeTrace } from "../timeline/chrome-trace.js";
import { timelineHtml } from "../timeline/timeline-html.js";
import type { StepPlans, StepReport } from "./step.js";

/** Steps remembered; events only, so that a picture costs nothing until it is drawn. */
const WINDOW = 9;

interface RememberedStep {
  readonly step: number;
  readonly stepMs: number;
  readonly plans: StepPlans;
  readonly runs: readonly MeasuredRun[];
}

export class StepPicture {
  readonly #recent: RememberedStep[] = [];

  constructor(readonly world: Communicator) {}

  /** @param step counted from 1 */
  remember(step: number, stepMs: number, plans: StepPlans, report: StepReport): void {
    const runs = report.runs.map(({ events, exposed, startMs }) => ({ events, exposed, startMs }));
    this.#recent.push({ step, stepMs, plans, runs });
    if (this.#recent.length > WINDOW) this.#recent.shift();
  }

  /** All ranks together; rank 0 writes. @throws EnvironmentError when the directory cannot be written */
  write(directory: string, title: string): void {
    const chosen = this.#typical();
    if (chosen === undefined) return;
    const { world } = this;
    const measured = gatherTimeline(world, chosen.runs, clockOffset(world));
    const predicted = this.#predict(chosen);
    if (world.rank !== 0) return;
    const titled = [{ title: `${title}, step ${chosen.step}`, measured, predicted }];
    replaceFile(join(directory, "timeline.json"), JSON.stringify(chromeTrace(titled)));
    replaceFile(join(directory, "timeline.html"), timelineHtml(titled));
  }

  /** Of the steps under the latest plans, the one of median length; a step is as long as on its slowest rank. */
  #typical(): RememberedStep | undefined {
    const candidates = this.#recent.filter(({ plans }) => plans === this.#recent.at(-1)?.plans);
    if (candidates.length === 0) return undefined;
    const onRanks = gatherJson(
      this.world,
      candidates.map((c) => c.stepMs),
      "step times",
    );
    const slowest = candidates.map((_, i) => Math.max(...onRanks.map((times) => times[i])));
    const order = slowest.map((_, i) => i).sort((a, b) => slowest[a] - slowest[b]);
    return candidates[order[(order.length - 1) >> 1]];
  }

  /** By the simulator, on costs measured in the recent steps. */
  #predict(chosen: RememberedStep): Timeline {
    const { world } = this;
    const costs = new MeasuredCosts();
    for (const { runs } of this.#recent) for (const { events } of runs) costs.add(events);
    const agreed = tableCosts(agreedCosts(gatherJson(world, costs.typical(), "costs")));
    const options = { costs: Array.from({ length: world.size }, () => agreed) };
    const { accumulate, last } = chosen.plans;
    const plans = chosen.runs.map((_, i) => (i === chosen.runs.length - 1 ? last : accumulate));
    return joinTimelines(plans.map(({ program, schedule }) => simulate(program, schedule, options)));
  }
}
