import { join } from "node:path";
import { nowMs } from "../../core/clock.js";
import { tokenizerTexts } from "../../data/tokenizer.js";
import { saveCheckpoint } from "../checkpoint.js";
import { writeOfRun } from "../run-directory.js";
import type { Trainee } from "../trainee.js";
import type { Observer, StepPlace } from "./observer.js";

const MINUTE_MS = 60e3;
/** A run that ends early has something to go on from. */
const FIRST_MINUTES = 1;

/** Saves every so many steps or minutes, after the last step, and before a run stops. */
export function checkpoints(
  rank: Trainee,
  of: {
    /** Of the run. */
    readonly directory: string;
    /** Where tokenizer.json is. */
    readonly data: string;
    readonly seed: number;
    readonly sequenceLength: number;
    /** Steps between checkpoints. */
    readonly interval: number | undefined;
    readonly minutes: number | null;
    readonly keep: number;
    readonly afterwards: readonly Observer[];
  },
): Observer {
  const { interval, minutes, seed, keep } = of;
  let dueMs = minutes === null ? Infinity : nowMs() + Math.min(minutes, FIRST_MINUTES) * MINUTE_MS;
  const isDue = ({ step, isLast, isStopped, isSaveWanted }: StepPlace): boolean =>
    isLast || isStopped || isSaveWanted || (interval !== undefined && step % interval === 0);
  return {
    wantsSave: () => nowMs() >= dueMs,
    readsWeights: isDue,
    step({ step, skipped, sequences, ...at }) {
      if (!isDue({ step, ...at })) return;
      const name = `step-${String(step).padStart(8, "0")}`;
      writeOfRun(of.directory, () => {
        saveCheckpoint(rank, join(of.directory, "checkpoints", name), {
          state: { step, seed, sequences, sequence_length: of.sequenceLength, skipped },
          tokenizer: tokenizerTexts(of.data),
          keep,
        });
        if (minutes !== null) dueMs = nowMs() + minutes * MINUTE_MS;
        for (const observer of of.afterwards) observer.saved?.();
      });
    },
  };
}
