/** Inputs that are almost right, over every parser: parsed or refused with one short line, soon, in little memory. */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CampaignOptions, type CampaignResult, progressOf, repeatLine } from "./campaign.js";
import { type Figures, type Share, type Tried, serve, targetOf } from "./fuzz/serve.js";

const CASES = 1_000_000;
const WORKERS = 2;
const SHARE = 500;
/** A process that has not come back with its share by then hangs in one of its cases. */
const MOST_SECONDS = 120;
const MOST_SECONDS_ALONE = 20;
const SERVES = "--fuzz-worker";

export async function campaign({ seed, cases = CASES, say }: CampaignOptions): Promise<CampaignResult> {
  // Nothing is kept: in memory where there is such a place.
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "scmoe-fuzz-"));
  const failures: { seed: number; line: string }[] = [];
  const targets = new Map<string, Figures>();
  const progress = progressOf(say, cases);
  let next = seed;
  let done = 0;
  const worker = async (index: number): Promise<void> => {
    const child = new Worker(join(folder, String(index)));
    while (next < seed + cases) {
      const share = { from: next, to: Math.min(next + SHARE, seed + cases), tells: cases === 1 };
      next = share.to;
      const tried = (await child.tryShare(share, MOST_SECONDS)) ?? (await oneByOne(child, share));
      failures.push(...tried.failures);
      for (const { line } of tried.failures.slice(0, 3)) say(line);
      for (const [name, figures] of Object.entries(tried.targets))
        targets.set(name, sum(targets.get(name), figures));
      progress((done += share.to - share.from), failures.length);
    }
    child.end();
  };
  try {
    await Promise.all(
      Array.from({ length: Math.min(WORKERS, Math.ceil(cases / SHARE)) }, (_, index) => worker(index)),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  for (const [name, { cases, ms, slowestMs, slowestSeed }] of [...targets].sort())
    say(
      `${name}: ${cases} cases, mean ${(ms / cases).toFixed(2)} ms, slowest ${slowestMs.toFixed(0)} ms (${repeatLine("fuzz", slowestSeed)})`,
    );
  failures.sort((a, b) => a.seed - b.seed);
  return { cases: done, failures: failures.map(({ seed, line }) => `${line}; ${repeatLine("fuzz", seed)}`) };
}

/** Which of the cases it is that hangs or kills the process. */
async function oneByOne(child: Worker, { from, to }: Share): Promise<Tried> {
  const all: Tried[] = [];
  for (let seed = from; seed < to; seed++)
    all.push(
      (await child.tryShare({ from: seed, to: seed + 1 }, MOST_SECONDS_ALONE)) ?? {
        failures: [
          { seed, line: `${targetOf(seed).target.name}: hangs, or ends the process (${child.ended})` },
        ],
        targets: {},
      },
    );
  const failures = all.flatMap((tried) => tried.failures);
  if (failures.length === 0)
    failures.push({ seed: from, line: `cases ${from} to ${to} hang or end the process only together` });
  return { failures, targets: {} };
}

function sum(a: Figures | undefined, b: Figures): Figures {
  if (a === undefined) return b;
  const slower = a.slowestMs > b.slowestMs ? a : b;
  return { ...slower, cases: a.cases + b.cases, ms: a.ms + b.ms };
}

/** A process that tries cases, started anew after it has died or was ended. */
class Worker {
  #child: ChildProcess | undefined;
  ended = "";

  constructor(readonly directory: string) {}

  /** @returns undefined when it did not come back */
  tryShare(share: Share, seconds: number): Promise<Tried | undefined> {
    const child = (this.#child ??= fork(fileURLToPath(import.meta.url), [SERVES, this.directory], {
      execArgv: ["--max-old-space-size=2048"],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    }));
    return new Promise((resolve) => {
      const finish = (tried: Tried | undefined, why: string): void => {
        clearTimeout(timer);
        child.removeAllListeners();
        if (tried === undefined) {
          child.kill("SIGKILL");
          this.#child = undefined;
          this.ended = why;
        }
        resolve(tried);
      };
      const timer = setTimeout(() => finish(undefined, `no answer for ${seconds} s`), seconds * 1e3);
      child.on("exit", (code, signal) => finish(undefined, `exit ${code ?? signal}`));
      child.on("error", (error) => finish(undefined, error.message));
      child.on("message", (message: Tried) => finish(message, ""));
      child.send(share);
    });
  }

  end(): void {
    this.#child?.kill("SIGKILL");
  }
}

if (process.argv[2] === SERVES) serve(process.argv[3]);
