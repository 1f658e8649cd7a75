/** timeline.json and timeline.html of a run directory: a typical recent step of all ranks, measured over predicted. */
import { join } from "node:path";
import { gatherJson } from "../../comm/collectives.js";
import type { Communicator } from "../../comm/communicator.js";
import { type MeasuredRun, clockOffset, gatherTimeline } from "../../run/gather-timeline.js";
import { MeasuredCosts, agreedCosts, estimatedCosts } from "../../simulate/costs.js";
import { simulate } from "../../simulate/simulate.js";
import { joinTimelines } from "../../timeline/summary.js";
import type { Timeline } from "../../timeline/timeline.js";
import { replaceFile } from "../../storage/files.js";
import { chromeTrace } from "../../timeline/chrome-trace.js";
import { timelineHtml } from "../../timeline/timeline-html.js";
import type { Program } from "../../program/program.js";
import type { Schedule } from "../../program/schedule.js";
import { type StepSessions, mainRun } from "../step-sessions.js";
import type { Observer, StepDone } from "./observer.js";

/** Steps remembered; events only, so that a picture costs nothing until it is drawn. */
const RECENT_STEPS = 9;

interface RememberedStep {
  readonly step: number;
  readonly stepMs: number;
  readonly sessions: StepSessions;
  readonly runs: readonly MeasuredRun[];
  readonly scheduled: readonly { readonly program: Program; readonly schedule: Schedule }[];
}

export class StepPicture implements Observer {
  readonly #recent: RememberedStep[] = [];

  /** @param title of a picture, beside the step's number */
  constructor(
    readonly world: Communicator,
    readonly directory: string,
    readonly title: string,
  ) {}

  step({ step, timing: { stepMs }, sessions, report }: StepDone): void {
    const runs = report.runs.map(({ events, exposed, startMs }) => ({ events, exposed, startMs }));
    const scheduled = report.runs.map(({ program, schedule }) => ({ program, schedule }));
    this.#recent.push({ step, stepMs, sessions, runs, scheduled });
    if (this.#recent.length > RECENT_STEPS) this.#recent.shift();
  }

  saved(): void {
    this.#write();
  }

  /** All ranks together; rank 0 writes. @throws EnvironmentError when the directory cannot be written */
  #write(): void {
    const chosen = this.#typical();
    if (chosen === undefined) return;
    const { world, directory } = this;
    const measured = gatherTimeline(world, chosen.runs, clockOffset(world));
    const predicted = this.#predict(chosen);
    if (world.rank !== 0) return;
    const title = `${this.title} ${mainRun(chosen.sessions).schedule.policy}, step ${chosen.step}`;
    const titled = [{ title, measured, predicted }];
    replaceFile(join(directory, "timeline.json"), JSON.stringify(chromeTrace(titled)));
    replaceFile(join(directory, "timeline.html"), timelineHtml(titled));
  }

  /** Of the steps under the latest schedules, the one of median length; a step is as long as on its slowest rank. */
  #typical(): RememberedStep | undefined {
    const candidates = this.#recent.filter(({ sessions }) => sessions === this.#recent.at(-1)?.sessions);
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
    const table = agreedCosts(gatherJson(world, costs.typical(), "costs"));
    const { scheduled } = chosen;
    const programs = scheduled.map(({ program }) => program);
    const agreed = estimatedCosts(table, programs, () => undefined);
    const options = { costs: Array.from({ length: world.size }, () => agreed) };
    return joinTimelines(scheduled.map(({ program, schedule }) => simulate(program, schedule, options)));
  }
}
