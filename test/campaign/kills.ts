/** SIGKILL at random moments, on threads and under MPI, cases being kills: resumed to its end, a run differs in not a byte. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CampaignOptions, type CampaignResult, progressOf, repeatLine } from "./campaign.js";
import { Dice } from "./fuzz/dice.js";
import { type End, type Where, startTrain, untilGone } from "./kills/command.js";
import { type Durations, FRESH, RESUMED, durationsOf } from "./kills/moments.js";
import {
  KEPT,
  SAVE_INTERVAL,
  STEPS,
  digests,
  entries,
  leftovers,
  lockToken,
  phaseOf,
  progressOfRun,
  resultsOf,
  savedSteps,
} from "./kills/traces.js";

const KILLS = 100;
const MOST_KILLS_OF_A_RUN = 3;
const RANKS = [1, 2, 3];

/** Runs one disturbed run after the other, seed after seed, until there were so many kills. */
export async function campaign({ seed, cases, say }: CampaignOptions): Promise<CampaignResult> {
  const kills = cases ?? KILLS;
  const stage = new Stage(mkdtempSync(join(tmpdir(), "scmoe-kills-")), say);
  try {
    const progress = progressOf(say, kills);
    const failures: string[] = [];
    let runs = 0;
    for (; stage.numKills < kills; runs++) {
      const problems = await stage.play(seed + runs);
      failures.push(...problems.map((problem) => `${problem}; ${repeatLine("kills", seed + runs)}`));
      if (stage.numKills > 0) progress(stage.numKills, failures.length);
    }
    stage.report(runs);
    return { cases: stage.numKills, failures };
  } finally {
    rmSync(stage.root, { recursive: true, force: true });
  }
}

/** An undisturbed run. */
interface Reference {
  readonly results: ReadonlyMap<string, string>;
  readonly durations: Durations;
}

class Stage {
  numKills = 0;
  readonly #launchers: readonly Where["launcher"][];
  readonly #references = new Map<string, Reference>();
  readonly #counts = new Map<string, Map<string, number>>();
  #longestOrphanMs = 0;
  /** Prepared by an undisturbed run: its directory, and what is in it. */
  #data: { readonly name: string; readonly digests: string } | undefined;

  constructor(
    readonly root: string,
    readonly say: (line: string) => void,
  ) {
    writeFileSync(join(root, "corpus.txt"), textOf(200_000));
    const hasMpi = spawnSync("mpirun", ["--version"]).status === 0;
    if (!hasMpi) say("There is no mpirun: ranks are threads in all runs");
    this.#launchers = hasMpi ? ["threads", "mpi"] : ["threads"];
  }

  /** One run, killed up to three times. @returns what is wrong */
  async play(seed: number): Promise<readonly string[]> {
    const dice = new Dice(seed);
    const where: Where = {
      launcher: this.#launchers[seed % this.#launchers.length],
      ranks: dice.pick(RANKS),
    };
    const { durations } = await this.#reference(where);
    const { results } = await this.#reference({ ...where, launcher: "threads" });
    const story: string[] = [];
    const directory = join(this.root, `run-${seed}`);
    const run = join(directory, "run");
    const cache = join(directory, "cache");
    mkdirSync(directory);
    try {
      const planned = 1 + dice.below(MOST_KILLS_OF_A_RUN);
      for (let i = 0; i < planned; i++) {
        const killed = await this.#disturb(where, directory, { durations, dice, isFirst: i === 0 });
        if (killed === "complete") break;
        story.push(killed.what);
        if (killed.problem !== undefined) return [describe(where, story, killed.problem)];
      }
      const isStale = lockToken(run) !== undefined;
      const { code, stderr } = await this.#go(where, directory);
      if (isStale) this.#count("a stale lock was overcome", where.launcher);
      if (code !== 0 || stderr !== "")
        return [describe(where, story, `goes on with exit code ${code}: ${line(stderr)}`)];
      return this.#problemsOf(run, cache, results).map((problem) => describe(where, story, problem));
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  /** Starts a run, or goes on with it, and kills it. */
  async #disturb(
    where: Where,
    directory: string,
    { durations, dice, isFirst }: { durations: Durations; dice: Dice; isFirst: boolean },
  ): Promise<"complete" | { readonly what: string; readonly problem?: string }> {
    const run = join(directory, "run");
    const cache = join(directory, "cache");
    const isResumed = savedSteps(run).length > 0;
    const moments = isResumed ? RESUMED : FRESH;
    const names = Object.keys(moments).filter((name) => name !== "preparing" || isFirst);
    // Fewer runs are resumed to be killed again than begin.
    const name = dice.pick(isResumed ? [...names, "resuming", "resuming"] : names);
    if (isFirst && name !== "preparing") cpSync(join(this.root, "cache"), cache, { recursive: true });
    const before = progressOfRun(run);
    const command = await startTrain(where, run, this.#args(directory));
    await moments[name]({ run, cache, isEnded: command.isEnded, durations, dice });
    const whom = command.kill(dice);
    const { code, stderr } = await command.ended;
    const orphanMs = await untilGone(run);
    const what = `${whom} killed when ${name}`;
    if (orphanMs === undefined) return { what, problem: "processes are left after a minute" };
    // It had ended by itself before.
    if (code === 0) {
      this.#count("ended before it was killed", where.launcher);
      return "complete";
    }
    if (code !== null && where.launcher === "threads")
      return { what, problem: `ended with ${code} before it was killed: ${line(stderr)}` };
    this.numKills++;
    this.#longestOrphanMs = Math.max(this.#longestOrphanMs, orphanMs);
    const phase = phaseOf(run, join(cache, this.#data?.name ?? ""), before);
    this.#count(`planned: ${name}`, where.launcher);
    this.#count(`found: ${phase}`, where.launcher);
    this.#count(`killed: ${whom}`, where.launcher);
    return { what: `${what} (${phase})` };
  }

  /** Starts or goes on, undisturbed. */
  async #go(where: Where, directory: string): Promise<End> {
    const command = await startTrain(where, join(directory, "run"), this.#args(directory));
    return await command.ended;
  }

  #args(directory: string): string[] {
    const run = join(directory, "run");
    if (savedSteps(run).length > 0) return ["--resume", run];
    const sets = [
      ...SETS,
      `data.corpus=${join(this.root, "corpus.txt")}`,
      `data.cache=${join(directory, "cache")}`,
    ];
    return ["-o", run, ...sets.flatMap((set) => ["--set", set])];
  }

  /** Results of threads are what every launcher must come to. */
  async #reference(where: Where): Promise<Reference> {
    const key = `${where.launcher} ${where.ranks}`;
    const known = this.#references.get(key);
    if (known !== undefined) return known;
    const directory = join(this.root, `undisturbed-${key.replace(" ", "-")}`);
    const run = join(directory, "run");
    const cache = join(directory, "cache");
    const command = await startTrain(where, run, this.#args(directory));
    const durations = await durationsOf({ run, cache, isEnded: command.isEnded });
    const { code, stderr } = await command.ended;
    if (code !== 0 || stderr !== "") throw new Error(`${key}: undisturbed, exit code ${code}: ${stderr}`);
    const [name] = entries(cache);
    this.#data ??= { name, digests: digests(join(cache, name)) };
    const reference = { results: resultsOf(run), durations };
    this.#references.set(key, reference);
    if (!existsSync(join(this.root, "cache"))) cpSync(cache, join(this.root, "cache"), { recursive: true });
    rmSync(directory, { recursive: true, force: true });
    const { data, start, step, end } = durations;
    const ms = [data, start, step, end].map((duration) => duration.toFixed(0));
    this.say(`${key} rank(s): data ${ms[0]} ms, start ${ms[1]} ms, step ${ms[2]} ms, end ${ms[3]} ms`);
    return reference;
  }

  #problemsOf(run: string, cache: string, wanted: ReadonlyMap<string, string>): string[] {
    const found = resultsOf(run);
    const names = [...new Set([...wanted.keys(), ...found.keys()])];
    const differing = names.filter((name) => wanted.get(name) !== found.get(name));
    const problems = differing.length === 0 ? [] : [`differs in ${differing.slice(0, 4).join(", ")}`];
    const left = leftovers(run);
    if (left.length > 0) problems.push(`leaves ${left.join(", ")}`);
    const data = this.#data?.name ?? "";
    if (digests(join(cache, data)) !== this.#data?.digests) problems.push("the prepared data differ");
    const beside = entries(cache).filter((name) => name !== data);
    if (beside.length > 0) problems.push(`the cache holds ${beside.join(", ")}, too`);
    return problems;
  }

  #count(what: string, launcher: Where["launcher"]): void {
    const counts = this.#counts.get(what) ?? new Map<string, number>();
    this.#counts.set(what, counts.set(launcher, (counts.get(launcher) ?? 0) + 1));
  }

  report(runs: number): void {
    this.say(`${this.numKills} kills of ${runs} runs`);
    for (const [what, counts] of [...this.#counts].sort(([a], [b]) => (a < b ? -1 : 1)))
      this.say(`${what}: ${[...counts].map(([launcher, count]) => `${count} ${launcher}`).join(", ")}`);
    this.say(
      `the last process of a killed run was gone ${(this.#longestOrphanMs / 1e3).toFixed(1)} s after it at most`,
    );
  }
}

const SETS = [
  "model.vocab_size=300",
  "model.hidden_size=32",
  "model.intermediate_size=64",
  "model.num_attention_heads=2",
  "model.num_hidden_layers=4",
  "model.num_experts=6",
  "model.max_position_embeddings=32",
  "model.arch=scmoe-pos2",
  "train.batch_size=6",
  `train.steps=${STEPS}`,
  `train.checkpoint_interval=${SAVE_INTERVAL}`,
  `train.keep_checkpoints=${KEPT}`,
  "train.eval_interval=7",
  "train.eval_batches=2",
];

/** Words at random: enough that data are prepared for a while. */
function textOf(words: number): string {
  const dice = new Dice(0);
  const known = Array.from({ length: 2_000 }, () => dice.u32().toString(36));
  return Array.from({ length: words }, () => dice.pick(known)).join(" ");
}

function describe({ launcher, ranks }: Where, story: readonly string[], problem: string): string {
  return `${launcher}, ${ranks} rank(s), ${story.join(", then ")}: ${problem}`;
}

function line(text: string): string {
  return text.trim().split("\n").slice(0, 6).join(" | ").slice(0, 1000);
}
