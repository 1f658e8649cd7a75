/** A process that tries cases and tells what happened: one that hangs or dies takes no others with it. */
import { readdirSync, writeFileSync } from "node:fs";
import { collectGarbage } from "../../../src/core/garbage.js";
import { COMMAND_LINE } from "./command-line.js";
import { Dice } from "./dice.js";
import { complaint } from "./judge.js";
import { READERS } from "./readers.js";
import { type Case, Place, type Target, weighted } from "./target.js";

const TARGETS: readonly Target[] = [...READERS, COMMAND_LINE];

/** Processor time of a case: what a person would not wait for, and more for long inputs. */
const MOST_MS = 3_000;
const MOST_MS_PER_MB = 2_000;
/** Memory of a case: ten times its input, and what garbage there is before it is collected. */
const MOST_BYTES = 64 * 2 ** 20;
const MOST_PER_BYTE = 10;
const TOUCHING_MS = 3;

export interface Share {
  /** Cases [from, to), each of its own seed. */
  readonly from: number;
  readonly to: number;
  /** Say on stderr what is read: for one case repeated alone. */
  readonly tells?: boolean;
}

export interface Tried {
  readonly failures: readonly { readonly seed: number; readonly line: string }[];
  readonly targets: Readonly<Record<string, Figures>>;
}

export interface Figures {
  readonly cases: number;
  readonly ms: number;
  readonly slowestMs: number;
  readonly slowestSeed: number;
}

export function targetOf(seed: number): { target: Target; dice: Dice } {
  const dice = new Dice(seed);
  return { target: weighted(dice, TARGETS), dice };
}

/** Answers every share of cases that it is sent; files are written in `directory`. */
export function serve(directory: string): void {
  const place = new Place(directory);
  process.chdir(directory);
  const warnings: string[] = [];
  process.removeAllListeners("warning");
  process.on("warning", (warning) => warnings.push(`${warning.name}: ${warning.message.slice(0, 200)}`));
  const send = (message: unknown): void => void process.send?.(message);
  process.on("message", (share: Share) => {
    void tryCases(share, place, warnings).then(send);
  });
}

async function tryCases({ from, to, tells }: Share, place: Place, warnings: string[]): Promise<Tried> {
  const failures: { seed: number; line: string }[] = [];
  const targets: Record<string, Figures> = {};
  collectGarbage();
  resetPeak();
  const filesBefore = openFiles();
  let peak = peakBytes();
  for (let seed = from; seed < to; seed++) {
    const { target, dice } = targetOf(seed);
    const one = target.make(dice, place);
    const fail = (what: string): void =>
      void failures.push({ seed, line: `${target.name}: ${what}; input ${excerpt(one.input)}` });
    if (tells) process.stderr.write(`${target.name}: ${excerpt(one.input, 4_000)}\n`);
    const found = await tryCase(one);
    // Made again, the case is the same: only what happens again is believed, as others use the machine, too.
    const again = (): Promise<Outcome> => {
      const { target, dice } = targetOf(seed);
      return tryCase(target.make(dice, place));
    };
    if (found.wrong !== undefined) fail(found.wrong);
    const mostMs = MOST_MS + (MOST_MS_PER_MB * one.input.length) / 1e6;
    if (found.ms > mostMs) {
      // Of the processor, which others do not slow down; to ask for it takes longer than most cases.
      const before = process.cpuUsage();
      await again();
      const { user, system } = process.cpuUsage(before);
      const ms = (user + system) / 1e3;
      if (ms > mostMs) fail(`takes ${ms.toFixed(0)} ms`);
    }
    const most = MOST_BYTES + MOST_PER_BYTE * one.input.length;
    // So much memory is not touched in no time.
    const now = found.ms < TOUCHING_MS ? peak : peakBytes();
    if (now - peak > most) {
      collectGarbage();
      resetPeak();
      const base = peakBytes();
      await again();
      const grown = peakBytes() - base;
      if (grown > most) fail(`takes ${(grown / 1e6).toFixed(0)} MB`);
    }
    peak = Math.max(peak, now);
    if (warnings.length > 0) fail(`a warning on the terminal: ${warnings.splice(0)[0]}`);
    const before = targets[target.name] ?? { cases: 0, ms: 0, slowestMs: 0, slowestSeed: seed };
    const isSlower = found.ms > before.slowestMs;
    targets[target.name] = {
      cases: before.cases + 1,
      ms: before.ms + found.ms,
      slowestMs: isSlower ? found.ms : before.slowestMs,
      slowestSeed: isSlower ? seed : before.slowestSeed,
    };
  }
  // Warnings, and files that are closed, come with the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  if (warnings.length > 0)
    failures.push({
      seed: from,
      line: `a warning on the terminal in cases ${from} to ${to}: ${warnings.splice(0)[0]}`,
    });
  const leaked = openFiles() - filesBefore;
  if (leaked > 0) failures.push({ seed: from, line: `${leaked} files left open by cases ${from} to ${to}` });
  return { failures, targets };
}

interface Outcome {
  readonly wrong: string | undefined;
  readonly ms: number;
}

async function tryCase({ run }: Case): Promise<Outcome> {
  let wrong: string | undefined;
  const started = performance.now();
  try {
    const result = run();
    if (result instanceof Promise) await result;
  } catch (error) {
    wrong = complaint(error);
  }
  if (({} as { polluted?: unknown }).polluted !== undefined) {
    wrong = "the prototype of all objects was changed";
    delete (Object.prototype as { polluted?: unknown }).polluted;
  }
  return { wrong, ms: performance.now() - started };
}

function excerpt(input: string | Uint8Array, longest = 300): string {
  const text =
    typeof input === "string"
      ? JSON.stringify(input.slice(0, longest))
      : `base64 ${Buffer.from(input.subarray(0, longest)).toString("base64")}`;
  return input.length > longest ? `${text}… (${input.length} in all)` : text;
}

function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}

/** Linux measures the largest memory anew from here; elsewhere the first peak stays. */
function resetPeak(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // Peaks are then only seen when they are the highest so far.
  }
}

function openFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0;
  }
}
