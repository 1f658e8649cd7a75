import { join } from "node:path";
import { readText } from "../../storage/files.js";
import { saveCheckpoint } from "../checkpoint.js";
import { writeOfRun } from "../run-directory.js";
import type { Trainee } from "../trainee.js";
import type { Observer } from "./observer.js";

/** Saves now and then, after the last step, and before a run stops. */
export function checkpoints(
  rank: Trainee,
  of: {
    /** Of the run. */
    readonly directory: string;
    /** Where tokenizer.json is. */
    readonly data: string;
    readonly seed: number;
    readonly interval: number | undefined;
    readonly keep: number;
    readonly afterwards: readonly Observer[];
  },
): Observer {
  const { interval, seed, keep } = of;
  return {
    step({ step, isLast, isStopped }) {
      const isDue = interval !== undefined && step % interval === 0;
      if (!isLast && !isStopped && !isDue) return;
      const name = `step-${String(step).padStart(8, "0")}`;
      writeOfRun(of.directory, () => {
        const tokenizer = readText(join(of.data, "tokenizer.json"), "the tokenizer");
        saveCheckpoint(rank, join(of.directory, "checkpoints", name), {
          state: { step, seed },
          tokenizer,
          keep,
        });
        for (const observer of of.afterwards) observer.saved?.();
      });
    },
  };
}
