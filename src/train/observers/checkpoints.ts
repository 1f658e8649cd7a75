import { readFileSync } from "node:fs";
import { join } from "node:path";
import { saveCheckpoint } from "../checkpoint.js";
import type { Trainee } from "../trainee.js";
import type { Observer, StepDone } from "./observer.js";

/** Saves now and then, after the last step, and before a run stops. */
export class Checkpoints implements Observer {
  constructor(
    readonly rank: Trainee,
    readonly of: {
      /** Of the run. */
      readonly directory: string;
      /** Where tokenizer.json is. */
      readonly data: string;
      readonly seed: number;
      readonly interval: number | undefined;
      readonly keep: number;
      readonly afterwards: readonly Observer[];
    },
  ) {}

  step({ step, isLast, isStopped }: StepDone): void {
    const { interval, directory, data, seed, keep, afterwards } = this.of;
    const isDue = interval !== undefined && step % interval === 0;
    if (!isLast && !isStopped && !isDue) return;
    const name = `step-${String(step).padStart(8, "0")}`;
    saveCheckpoint(this.rank, join(directory, "checkpoints", name), {
      state: { step, seed },
      tokenizer: readFileSync(join(data, "tokenizer.json"), "utf8"),
      keep,
    });
    for (const observer of afterwards) observer.saved?.();
  }
}
