import { join } from "node:path";
import { openMetrics } from "../../storage/metrics.js";
import { openTensorboard } from "../../storage/tensorboard.js";
import { writeOfRun } from "../run-directory.js";
import type { Observer } from "./observer.js";
import { boardScalars, stepRow } from "./report.js";

/** Rows of metrics.jsonl, and the same for TensorBoard; on rank 0. */
export function metricsFiles(
  directory: string,
  of: {
    /** Steps done before: rows after it are cut off. */
    readonly startStep: number;
    readonly interval: number;
    readonly tokensPerStep: number;
    readonly routings: readonly string[];
    readonly say: (line: string) => void;
  },
): Observer {
  const metrics = openMetrics(join(directory, "metrics.jsonl"), of.startStep);
  if (metrics.numDamaged > 0)
    of.say(`${directory}/metrics.jsonl: ${metrics.numDamaged} damaged line(s) were removed`);
  const board = openTensorboard(directory, of.startStep);
  return {
    step({ step, report, timing, options, skipped, isEvaluated, validationLoss }) {
      if (!isEvaluated && step % of.interval !== 0) return;
      const { learningRate } = options;
      const { tokensPerStep: tokens, routings } = of;
      const row = stepRow(report, timing, { learningRate, tokens, skipped, routings });
      const validation: Record<string, number> = {};
      if (isEvaluated && validationLoss !== null) validation.validation_loss = validationLoss;
      writeOfRun(directory, () => {
        metrics.append({ step, ...row.scalars, ...validation, layers: row.layers });
        board.scalars(step, { ...boardScalars(row), ...validation });
      });
    },
  };
}
