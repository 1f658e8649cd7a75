import { readFileSync } from "node:fs";
import { join } from "node:path";
import { saveCheckpoint } from "../checkpoint.js";
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
      const tokenizer = readFileSync(join(of.data, "tokenizer.json"), "utf8");
      saveCheckpoint(rank, join(of.directory, "checkpoints", name), {
        state: { step, seed },
        tokenizer,
        keep,
      });
      for (const observer of of.afterwards) observer.saved?.();
    },
  };
}
