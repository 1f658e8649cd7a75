import type { TimelineSummary } from "../timeline/timeline.js";

/** What training says after each step. */
export interface StepEvent {
  readonly kind: "step";
  /** Steps done, the first step of a resumed run counted from its beginning; and steps in all. */
  readonly step: number;
  readonly steps: number;
  /** Mean nats per token of the step's batch over all ranks. */
  readonly loss: number;
  /** Nats per token of held-out text, after steps that are followed by an evaluation. */
  readonly validationLoss: number | null;
  readonly learningRate: number;
  /** Over the whole model, before clipping. */
  readonly gradientNorm: number;
  /** Of all ranks together. */
  readonly tokensPerSecond: number;
  /** Milliseconds of this step on this rank. */
  readonly timing: TimelineSummary;
}
