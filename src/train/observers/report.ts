/** What a step says about itself: a row of metrics, TensorBoard scalars. */
import { sum } from "../../core/statistics.js";
import type { ModelProgram } from "../../model/language-model.js";
import type { LoadStatistics } from "../../run/moe/statistics.js";
import { combined, summarize } from "../../timeline/summary.js";
import type { TimelineSummary } from "../../timeline/timeline.js";
import type { StepReport } from "../step.js";

/** A row of metrics.jsonl without its step; figures of the MoE layers are over the tokens of all ranks. */
export interface StepRow {
  readonly scalars: Readonly<Record<string, number>>;
  readonly layers: readonly LayerRow[];
}

export interface LayerRow {
  /** "L3", or "L3.previous" for the preceding representation of a DGMoE layer. */
  readonly layer: string;
  readonly tokens_per_expert: readonly number[];
  readonly dropped_share: number;
  /** Of all choices, where the model has zero experts. */
  readonly zero_expert_share?: number;
  /** Of the load over the experts: 1 is perfectly even, 0 one expert only. */
  readonly entropy: number;
}

/** Names of a model's routings, in their order. */
export function routingNames({ routings }: ModelProgram): string[] {
  return routings.map(({ branch, name }) => branch ?? name);
}

export function stepRow(
  report: StepReport,
  timing: TimelineSummary,
  at: { learningRate: number; tokens: number; skipped: number; routings: readonly string[] },
): StepRow {
  const { loads } = report;
  const mean = (of: (load: LoadStatistics) => number): number =>
    loads.reduce((sum, load) => sum + of(load), 0) / loads.length;
  const moe = {
    balance_loss: report.balanceLoss,
    z_loss: report.zLoss,
    dropped_share: mean((l) => l.droppedShare),
    ...zeroShare(loads.length === 0 ? undefined : mean((l) => l.zeroExpertShare ?? NaN)),
    load_entropy: mean((l) => l.entropy),
    load_imbalance: mean((l) => l.imbalance),
  };
  return {
    scalars: {
      loss: report.loss,
      lm_loss: report.lmLoss,
      ...(report.distillLoss === undefined
        ? {}
        : { distill_loss: report.distillLoss, teacher_ms: report.teacherMs ?? 0 }),
      grad_norm: report.gradientNorm,
      learning_rate: at.learningRate,
      skipped_steps: at.skipped,
      tokens_per_second: (at.tokens / timing.stepMs) * 1e3,
      step_ms: timing.stepMs,
      compute_ms: timing.computeMs,
      communication_ms: timing.communicationMs,
      exposed_ms: timing.exposedMs,
      late_ms: timing.lateMs,
      overlap_share: timing.overlapShare,
      /** Of the process: all its ranks. */
      resident_bytes: process.memoryUsage.rss(),
      ...(loads.length > 0 ? moe : {}),
    },
    layers: loads.map((load, i) => ({
      layer: at.routings[i],
      tokens_per_expert: load.tokensPerExpert,
      dropped_share: load.droppedShare,
      ...zeroShare(load.zeroExpertShare),
      entropy: load.entropy,
    })),
  };
}

function zeroShare(share: number | undefined): { readonly zero_expert_share?: number } {
  return share === undefined || Number.isNaN(share) ? {} : { zero_expert_share: share };
}

/** The same for TensorBoard, which knows only scalars: one tag per layer and figure, "moe/L3/entropy". */
export function boardScalars({ scalars, layers }: StepRow): Record<string, number> {
  const ofLayers = layers.flatMap(
    ({ layer, tokens_per_expert, dropped_share, zero_expert_share, entropy }) => [
      [`moe/${layer}/entropy`, entropy],
      [`moe/${layer}/dropped_share`, dropped_share],
      ...(zero_expert_share === undefined ? [] : [[`moe/${layer}/zero_expert_share`, zero_expert_share]]),
      [`moe/${layer}/most_tokens`, Math.max(...tokens_per_expert)],
      [`moe/${layer}/fewest_tokens`, Math.min(...tokens_per_expert)],
    ],
  );
  return { ...scalars, ...(Object.fromEntries(ofLayers) as Record<string, number>) };
}

/** Sums over the micro-batches of a step that took `stepMs` in all, update included. */
export function stepTiming(report: StepReport, stepMs: number): TimelineSummary {
  const all = report.runs.map((run) => summarize(run.events, run.exposed, 1, stepMs));
  return { ...combined(all, sum), stepMs };
}
