/** Any layout, same numbers: random models on random layouts of ranks, beside one rank that runs the same pieces. */
import { type CampaignOptions, type CampaignResult, progressOf, repeatLine } from "./campaign.js";
import { type Case, describe, makeCase } from "./layouts/case.js";
import { type Class, type Comparison, classOf, compare, isIllConditioned } from "./layouts/compare.js";
import { type Heard, type Task, playOnMpi, playOnThreads, whyNoMpi } from "./layouts/job.js";
import type { Played } from "./layouts/play.js";

export { layoutsJob, underMpi } from "./layouts/job.js";

/** Cases of one launch: kernels are compiled once for all of them, and their memory is given back after. */
const MOST_TASKS = 150;
const MOST_ATTEMPTS = 5;

/** One rank plays every case beside the ranks that play its layout; both go through the cases in the same order. */
export async function campaign({ seed, cases, say }: CampaignOptions): Promise<CampaignResult> {
  const count = cases ?? 1000;
  const noMpi = whyNoMpi();
  const judge = new Judge(count, say);
  let open = Array.from({ length: count }, (_, i) => makeCase(seed + i, noMpi === undefined));
  while (open.length > 0) {
    const launches = groupCases(open);
    await Promise.all([
      playInOrder(launches, "one", (task, outcome) => judge.hear(task, outcome)),
      playInOrder(launches, "layout", (task, outcome) => judge.hear(task, outcome)),
    ]);
    const suspects = judge.takeSuspects();
    const tasks = suspects.map(({ of }): Task => ({ of, side: "nudged" }));
    await playOnThreads(1, tasks, ({ of }, outcome) => judge.hearNudged(suspects, of, outcome));
    open = judge.takeRedrawn();
  }
  return { cases: count, failures: judge.failures, notes: judge.notes(noMpi) };
}

/** Cases that can share a launch. */
function groupCases(cases: readonly Case[]): Case[][] {
  const groups = new Map<string, Case[]>();
  for (const of of cases) {
    const key = `${of.transport} ${of.ranks}`;
    groups.set(key, [...(groups.get(key) ?? []), of]);
  }
  return [...groups.values()].flatMap((group) =>
    Array.from({ length: Math.ceil(group.length / MOST_TASKS) }, (_, i) =>
      group.slice(i * MOST_TASKS, (i + 1) * MOST_TASKS),
    ),
  );
}

async function playInOrder(
  launches: readonly (readonly Case[])[],
  side: Task["side"],
  heard: Heard,
): Promise<void> {
  for (const cases of launches) {
    const [{ ranks, transport }] = cases;
    const tasks = cases.map((of) => ({ of, side }));
    if (side !== "layout") await playOnThreads(1, tasks, heard);
    else await (transport === "mpi" ? playOnMpi : playOnThreads)(ranks, tasks, heard);
  }
}

/** Beyond its bounds, and perhaps because it is ill conditioned. */
interface Suspect {
  readonly of: Case;
  readonly one: Played;
  readonly comparison: Comparison;
}

class Judge {
  readonly failures: string[] = [];
  readonly #redrawn: Case[] = [];
  readonly #suspects: Suspect[] = [];
  #numTies = 0;
  #numIllConditioned = 0;
  #done = 0;
  readonly #waiting = new Map<Case, { readonly side: Task["side"]; readonly outcome: Played | string }>();
  readonly #worst = new Map<Class, { cases: number; worst: Comparison["worst"] }>();
  #numMpi = 0;
  readonly #progress: (done: number, failed: number) => void;

  constructor(
    count: number,
    readonly say: (line: string) => void,
  ) {
    this.#progress = progressOf(say, count);
  }

  hear({ of, side }: Task, outcome: Played | string): void {
    const other = this.#waiting.get(of);
    if (other === undefined) return void this.#waiting.set(of, { side, outcome });
    this.#waiting.delete(of);
    const [layout, one] = side === "layout" ? [outcome, other.outcome] : [other.outcome, outcome];
    if (typeof layout === "string") return this.#end(of, [layout]);
    if (typeof one === "string") return this.#end(of, [`one rank: ${one}`]);
    const comparison = compare(of, layout, one);
    const { problems, beyond, tie } = comparison;
    if (tie !== undefined && of.attempt < MOST_ATTEMPTS) {
      this.#numTies++;
      return this.#redraw(of, tie);
    }
    if (problems.length === 0 && beyond.length > 0) {
      this.#suspects.push({ of, one, comparison });
      return;
    }
    this.#judge(of, comparison);
  }

  /** A case beyond its bounds, and the same on one rank with weights that differ by rounding. */
  hearNudged(suspects: readonly Suspect[], of: Case, outcome: Played | string): void {
    const suspect = suspects.find((one) => one.of === of);
    if (suspect === undefined) return;
    const { one, comparison } = suspect;
    if (typeof outcome === "string") return this.#end(of, [...comparison.beyond, `nudged: ${outcome}`]);
    const isIll = isIllConditioned(comparison, compare(of, outcome, one));
    if (!isIll || of.attempt >= MOST_ATTEMPTS) return this.#judge(of, comparison);
    this.#numIllConditioned++;
    this.#redraw(of, `${comparison.beyond[0]}; weights that differ by rounding lead as far`);
  }

  #redraw(of: Case, why: string): void {
    this.#redrawn.push({ ...of, attempt: of.attempt + 1 });
    this.say(`case ${of.seed} is drawn again: ${why}`);
  }

  #judge(of: Case, { problems, beyond, tie, worst }: Comparison): void {
    const seen = this.#worst.get(classOf(of)) ?? {
      cases: 0,
      worst: { loss: 0, gradient: 0, weight: 0, moment: 0 },
    };
    const most = (key: keyof Comparison["worst"]): number => Math.max(seen.worst[key], worst[key]);
    this.#worst.set(classOf(of), {
      cases: seen.cases + 1,
      worst: {
        loss: most("loss"),
        gradient: most("gradient"),
        weight: most("weight"),
        moment: most("moment"),
      },
    });
    if (of.transport === "mpi") this.#numMpi++;
    this.#end(of, tie === undefined ? [...problems, ...beyond] : [`a tie in every attempt: ${tie}`]);
  }

  #end(of: Case, problems: readonly string[]): void {
    if (problems.length > 0) {
      const more = problems.length > 4 ? ` + ${problems.length - 4} more` : "";
      this.failures.push(
        `${describe(of)}: ${problems.slice(0, 4).join(" + ")}${more}; ${repeatLine("layouts", of.seed)}`,
      );
    }
    this.#progress(++this.#done, this.failures.length);
  }

  takeRedrawn(): Case[] {
    return this.#redrawn.splice(0);
  }

  takeSuspects(): Suspect[] {
    return this.#suspects.splice(0);
  }

  /** Largest errors of each class, and what was not compared. */
  notes(noMpi: string | undefined): string[] {
    const errors = [...this.#worst].map(([of, { cases, worst }]) => {
      const each = Object.entries(worst).map(([what, error]) => `${what} ${error.toExponential(1)}`);
      return `${of}: ${cases} cases, largest errors: ${each.join(", ")}`;
    });
    const mpi = noMpi === undefined ? `${this.#numMpi} cases under mpirun` : `threads only: ${noMpi}`;
    return [
      ...errors,
      `${mpi}; ${this.#numTies} drawn again for a tie within rounding, ${this.#numIllConditioned} as ill conditioned`,
    ];
  }
}
