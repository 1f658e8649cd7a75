import { join } from "node:path";
import { openMetrics } from "../../storage/metrics.js";
import { openTensorboard } from "../../storage/tensorboard.js";
import type { Observer, StepDone } from "./observer.js";
import { boardScalars, stepRow } from "./report.js";

/** Rows of metrics.jsonl, and the same for TensorBoard; on rank 0. */
export class MetricsFiles implements Observer {
  readonly #metrics: ReturnType<typeof openMetrics>;
  readonly #board: ReturnType<typeof openTensorboard>;

  constructor(
    directory: string,
    readonly of: {
      /** Steps done before: rows after it are cut off. */
      readonly startStep: number;
      readonly interval: number;
      readonly tokensPerStep: number;
      readonly routings: readonly string[];
    },
  ) {
    this.#metrics = openMetrics(join(directory, "metrics.jsonl"), of.startStep);
    this.#board = openTensorboard(directory, of.startStep);
  }

  step({ step, report, timing, options, isEvaluated, validationLoss }: StepDone): void {
    if (!isEvaluated && step % this.of.interval !== 0) return;
    const { learningRate } = options;
    const { tokensPerStep: tokens, routings } = this.of;
    const row = stepRow(report, timing, { learningRate, tokens, routings });
    const validation: Record<string, number> = {};
    if (isEvaluated && validationLoss !== null) validation.validation_loss = validationLoss;
    this.#metrics.append({ step, ...row.scalars, ...validation, layers: row.layers });
    this.#board.scalars(step, { ...boardScalars(row), ...validation });
  }
}
