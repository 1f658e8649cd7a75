/** An hour of training on 4 ranks with everything on, cases being minutes: memory, open files, handles and threads stay flat. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { median } from "../../src/core/statistics.js";
import type { CampaignOptions, CampaignResult } from "./campaign.js";

// The campaign runs as dist/campaign/NAME.mjs.
const ROOT = new URL("../../", import.meta.url);
const CLI = new URL("dist/cli/main.js", ROOT).pathname;
const SAMPLER = new URL("test/campaign/soak/sampler.mjs", ROOT).href;
const RANKS = 4;
const MINUTES = 60;
const MINUTE_MS = 60_000;
/** Share of the time, and the least of it, after which caches, code and pools have what they will have. */
const WARM_UP = { share: 0.1, leastMs: 20_000 };
/** What memory may grow by from the end of warm-up to the end, on a fitted line: the larger of the two. */
const GROWTH = { share: 0.02, bytes: 10e6 };

/** That medians are of: one of two samples may be of a moment at which another rank has a file open. */
const FEWEST_SAMPLES = 9;

interface Sample {
  readonly thread: number;
  readonly ms: number;
  readonly residentBytes: number;
  readonly files: number;
  readonly threads: number;
  readonly handles: number;
  readonly heapBytes: number;
}

const SETS = [
  "model.vocab_size=300",
  "model.hidden_size=32",
  "model.intermediate_size=64",
  "model.num_attention_heads=2",
  "model.num_hidden_layers=4",
  "model.num_experts=8",
  "model.max_position_embeddings=32",
  "model.arch=scmoe-pos2",
  "train.batch_size=8",
  "train.steps=10000000",
  "train.eval_interval=100",
  "train.eval_batches=4",
  "train.checkpoint_minutes=0.25",
  "schedule.policy=adaptive",
];

/** Trains for so many minutes, asks the run to stop, and lets it go on for a few steps to its end. */
export async function campaign({ seed, cases, say }: CampaignOptions): Promise<CampaignResult> {
  const minutes = cases ?? MINUTES;
  const root = mkdtempSync(join(tmpdir(), "scmoe-soak-"));
  const samples = join(root, "samples.jsonl");
  try {
    const sets = [...SETS, `train.seed=${seed}`].flatMap((set) => ["--set", set]);
    const child = startTraining(root, ["-o", "run", "-n", String(RANKS), ...sets]);
    const started = Date.now();
    for (let minute = 1; minute <= minutes && child.isRunning(); minute++) {
      await Promise.race([
        sleep(started + minute * MINUTE_MS - Date.now(), undefined, { ref: false }),
        child.ended,
      ]);
      say(`minute ${minute} of ${minutes}: ${stateText(readSamples(samples))}`);
    }
    child.process.kill("SIGINT");
    const failures = [...endProblems(await child.ended), ...growths(readSamples(samples), say)];
    if (failures.length === 0) failures.push(...(await runProblems(root, say)));
    const repeat = `npm run campaign -- soak --seed ${seed} --cases ${minutes}`;
    return { cases: minutes, failures: failures.map((failure) => `${failure}; ${repeat}`) };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

interface End {
  /** The exit code, or the signal that ended it. */
  readonly code: number | NodeJS.Signals | null;
  readonly stderr: string;
}

interface Training {
  readonly process: ChildProcess;
  readonly isRunning: () => boolean;
  readonly ended: Promise<End>;
}

/** Gives way to everything else on the machine. */
function startTraining(cwd: string, args: readonly string[]): Training {
  const node = ["--unhandled-rejections=strict", "--trace-warnings", "--import", SAMPLER];
  const child = spawn(process.execPath, [...node, CLI, "train", "-q", "--timeline", ...args], {
    cwd,
    env: { ...process.env, SAMPLES: join(cwd, "samples.jsonl") },
    stdio: ["ignore", "ignore", "pipe"],
  });
  if (child.pid !== undefined) setPriority(child.pid, 19);
  const end = (): void => void child.kill("SIGKILL");
  process.on("exit", end);
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<End>((resolve) =>
    child.on("close", (code, signal) => {
      process.off("exit", end);
      resolve({ code: code ?? signal, stderr });
    }),
  );
  return { process: child, isRunning: () => child.exitCode === null && child.signalCode === null, ended };
}

function readSamples(file: string): Sample[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Sample);
}

function stateText(samples: readonly Sample[]): string {
  const last = samples.at(-1);
  if (last === undefined) return "nothing seen yet";
  const { residentBytes, files, threads } = last;
  const recent = [...new Map(samples.map((sample) => [sample.thread, sample])).values()];
  const heaps = recent.map(({ heapBytes }) => (heapBytes / 1e6).toFixed(1)).join(" ");
  return `${(residentBytes / 1e6).toFixed(1)} MB resident, ${files} open files, ${threads} threads, heaps ${heaps} MB`;
}

/** Asked to stop, it says how to go on, and nothing else: no warning, no rejection. */
function endProblems({ code, stderr }: End): string[] {
  const isSaid = stderr === "Continue with: scmoe train --resume run\n";
  return code === 130 && isSaid ? [] : [`ended with ${code}: ${JSON.stringify(stderr.slice(0, 2000))}`];
}

function growths(samples: readonly Sample[], say: (line: string) => void): string[] {
  if (samples.length === 0) return ["no samples"];
  const [firstMs, lastMs] = [samples[0].ms, samples[samples.length - 1].ms];
  const warmMs = firstMs + Math.max(WARM_UP.share * (lastMs - firstMs), WARM_UP.leastMs);
  const warm = samples.filter(({ ms }) => ms >= warmMs);
  const failures: string[] = [];
  const seen = [...new Set(warm.map(({ thread }) => thread))].sort((a, b) => a - b);
  if (seen.length !== RANKS + 1) failures.push(`samples of ${seen.length} threads, wanted ${RANKS + 1}`);

  const { level, growth } = fittedGrowth(warm.map(({ ms, residentBytes }) => [ms, residentBytes]));
  const minutes = ((lastMs - warmMs) / MINUTE_MS).toFixed(1);
  const memory = `resident memory ${(level / 1e6).toFixed(1)} MB, ${growth < 0 ? "" : "+"}${(growth / 1e6).toFixed(2)} MB in ${minutes} minutes after warm-up`;
  say(memory);
  if (growth > Math.max(GROWTH.share * level, GROWTH.bytes)) failures.push(memory);

  for (const thread of seen) {
    const own = warm.filter((sample) => sample.thread === thread);
    const tenth = Math.max(FEWEST_SAMPLES, Math.ceil(own.length / 10));
    for (const key of ["files", "threads", "handles"] as const) {
      const [before, after] = [own.slice(0, tenth), own.slice(-tenth)].map((part) =>
        median(part.map((sample) => sample[key])),
      );
      say(`thread ${thread}: ${key} ${before} after warm-up, ${after} at the end`);
      if (after > before) failures.push(`thread ${thread}: ${key} grew from ${before} to ${after}`);
    }
    const heap = fittedGrowth(own.map(({ ms, heapBytes }) => [ms, heapBytes]));
    say(
      `thread ${thread}: heap ${(heap.level / 1e6).toFixed(2)} MB, grown by ${(heap.growth / 1e6).toFixed(2)} MB`,
    );
  }
  return failures;
}

/** Of the line of least squares: its height in the middle, and its rise from the first point to the last. */
function fittedGrowth(points: readonly (readonly [x: number, y: number])[]): {
  level: number;
  growth: number;
} {
  const mean = (i: 0 | 1): number => points.reduce((sum, point) => sum + point[i], 0) / points.length;
  const [x0, y0] = [mean(0), mean(1)];
  const xy = points.reduce((sum, [x, y]) => sum + (x - x0) * (y - y0), 0);
  const xx = points.reduce((sum, [x]) => sum + (x - x0) ** 2, 0);
  const span = points[points.length - 1][0] - points[0][0];
  return { level: y0, growth: xx === 0 ? 0 : (xy / xx) * span };
}

/** What is wrong with the directory of the run, and whether it can be brought to its end. */
async function runProblems(root: string, say: (line: string) => void): Promise<string[]> {
  const run = join(root, "run");
  const names = readdirSync(join(run, "checkpoints")).sort();
  const steps = Number(names.at(-1)?.slice("step-".length));
  say(`${steps} steps; the run's directory holds ${readdirSync(run).join(", ")}`);
  const failures =
    names.length === 3 ? [] : [`checkpoints holds ${names.join(", ")}; wanted latest and two more`];
  const last = steps + 5;
  const resumed = startTraining(root, ["--resume", "run", "--set", `train.steps=${last}`]);
  const { code, stderr } = await resumed.ended;
  if (code !== 0 || stderr !== "") failures.push(`resuming it ended with ${code}: ${stderr.slice(0, 2000)}`);
  const rows = readFileSync(join(run, "metrics.jsonl"), "utf8").split("\n").slice(0, -1);
  const isWhole = rows.every((row, i) => (JSON.parse(row) as { step: number }).step === i + 1);
  if (!isWhole || rows.length !== last)
    failures.push(`metrics.jsonl: ${rows.length} rows, wanted steps 1 to ${last}`);
  const leftover = readdirSync(run).filter((name) => name.endsWith(".tmp") || name.startsWith("lock.json"));
  if (leftover.length > 0) failures.push(`left behind: ${leftover.join(", ")}`);
  return failures;
}
