/** When a run is killed: moments that can be seen from outside, by what it writes. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import type { Dice } from "../fuzz/dice.js";
import { KEPT, SAVE_INTERVAL, STEPS, checkpointName, entries, numRows, savedSteps } from "./traces.js";

/** How long the phases of an undisturbed run take, ms. */
export interface Durations {
  /** Of preparing data: zero where they had been prepared. */
  readonly data: number;
  /** From the lock to the first step, without that. */
  readonly start: number;
  /** Of a step. */
  readonly step: number;
  /** From the last step to the end. */
  readonly end: number;
}

/** A run that is under way; it holds the lock. */
export interface Watched {
  readonly run: string;
  readonly cache: string;
  readonly isEnded: () => boolean;
  readonly durations: Durations;
  readonly dice: Dice;
}

/** Resolves when it is time, or the run has ended. */
type Moment = (of: Watched) => Promise<void>;

/** Looking so often costs nothing. */
const LOOK_MS = 3;
/** A small checkpoint is written in about so many milliseconds, and removed in so many. */
const WRITING_MS = 15;
const REMOVING_MS = 0.4;

const starting: Moment = ({ durations, dice }) => sleep(share(dice) * durations.start);

const stepping: Moment = async (of) => {
  const step = someStep(of, 1);
  await look(of, () => numRows(of.run) >= step);
  await sleep(share(of.dice) * of.durations.step);
};

const saving: Moment = async (of) => {
  const step = someStep(of, SAVE_INTERVAL);
  await seen(of, step, `${checkpointName(step)}.tmp`);
  await spin(share(of.dice) * WRITING_MS);
};

const rotating: Moment = async (of) => {
  const oldest = (savedSteps(of.run)[0] ?? SAVE_INTERVAL) + KEPT * SAVE_INTERVAL;
  const step = Math.max(oldest, someStep(of, SAVE_INTERVAL));
  await seen(of, step, `${checkpointName(step - KEPT * SAVE_INTERVAL)}.tmp`);
  await spin(share(of.dice) * REMOVING_MS);
};

const ending: Moment = async (of) => {
  await look(of, () => numRows(of.run) >= STEPS);
  await sleep(share(of.dice) * of.durations.end);
};

const preparing: Moment = async (of) => {
  await look(of, () => entries(of.cache).some((name) => name.includes(".tmp-")));
  await sleep(share(of.dice) * of.durations.data);
};

/** Of a run that begins: the first only where data are not prepared. */
export const FRESH: Readonly<Record<string, Moment>> = {
  preparing,
  starting,
  stepping,
  saving,
  rotating,
  ending,
};
/** Of a run that goes on. */
export const RESUMED: Readonly<Record<string, Moment>> = {
  resuming: starting,
  stepping,
  saving,
  rotating,
  ending,
};

function share(dice: Dice): number {
  return dice.u32() / 2 ** 32;
}

/** A multiple of the interval among the steps that are left. */
function someStep({ run, dice }: Watched, interval: number): number {
  const done = Math.floor((savedSteps(run).at(-1) ?? 0) / interval);
  const left = STEPS / interval - done;
  return (done + 1 + dice.below(Math.max(1, left))) * interval;
}

/** That a name has appeared among the checkpoints, at once: from the step before on, without a pause. */
async function seen(of: Watched, step: number, name: string): Promise<void> {
  await look(of, () => numRows(of.run) >= step - 1);
  const path = join(of.run, "checkpoints", name);
  const isAppeared = (): boolean => {
    const end = performance.now() + LOOK_MS;
    while (performance.now() < end) if (existsSync(path)) return true;
    return false;
  };
  while (!of.isEnded() && !isAppeared()) await turn();
}

async function look({ isEnded }: Pick<Watched, "isEnded">, isTime: () => boolean): Promise<void> {
  while (!isEnded() && !isTime()) await sleep(LOOK_MS);
}

async function spin(ms: number): Promise<void> {
  for (const end = performance.now() + ms; performance.now() < end;) await turn();
}

/** Watches a run to its end. */
export async function durationsOf({
  run,
  cache,
  isEnded,
}: Omit<Watched, "dice" | "durations">): Promise<Durations> {
  const at: number[] = [];
  const stamp = async (isTime: () => boolean): Promise<void> => {
    await look({ isEnded }, isTime);
    at.push(performance.now());
  };
  const isPreparing = (): boolean => entries(cache).some((name) => name.includes(".tmp-"));
  const isFirst = (): boolean => numRows(run) >= 1;
  await stamp(() => true);
  await stamp(() => isPreparing() || isFirst());
  await stamp(() => !isPreparing() || isFirst());
  await stamp(isFirst);
  await stamp(() => numRows(run) >= STEPS);
  await stamp(() => false);
  const [locked, begun, prepared, first, last, ended] = at;
  const data = prepared - begun;
  return {
    data,
    start: first - locked - data,
    step: (last - first) / (STEPS - 1),
    end: ended - last,
  };
}
