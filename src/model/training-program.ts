/** The program of a micro-batch in training: forward with gate noise and balance statistics, then its derivative. */
import { ProgramBuilder } from "../program/builder.js";
import type { BackwardOptions } from "../program/backward-walk.js";
import { differentiateProgram } from "../program/differentiate.js";
import { pruneProgram } from "../program/prune.js";
import type { ModelConfig } from "./config.js";
import { type ModelProgram, wireModel } from "./language-model.js";
import type { Distillation } from "./parts/head.js";
import type { WireOptions } from "./wires.js";

/** The sizes of a training program, and how its backward half is derived. */
export interface TrainingOptions
  extends WireOptions, Pick<BackwardOptions, "recompute" | "splitWeightGradients"> {
  /**
   * Where balance statistics over all ranks come from, if the loss counts them: an operator sums those of this micro-batch
   * (the default), or whoever runs the program feeds those of the whole step.
   */
  readonly statistics?: "summed" | "fed";
  /** Learn from a teacher's logits, too. */
  readonly distill?: Distillation | undefined;
}

/** The program of a micro-batch in training, and the ids of the values that the caller feeds and reads. */
export interface TrainingProgram extends ModelProgram {
  readonly labels: number;
  /** Fed: gradient of each loss [T]. */
  readonly seed: number;
  /** Fed to a student: gradient of each divergence from the teacher [T]. */
  readonly divergenceSeed?: number;
  /** Fed: scales of the auxiliary losses (`LossScales`). */
  readonly scales: number;
  /** `BalanceStatistics` over all ranks, when the auxiliary loss counts them; fed if the options say so. */
  readonly statistics?: number;
}

/** Wires a model for training: forward, balance statistics, and the derived backward half. */
export function buildTrainingProgram(config: ModelConfig, options: TrainingOptions): TrainingProgram {
  const model = wireModel(
    config,
    { ...options, head: "losses" },
    { withNoise: true, distill: options.distill },
  );
  const builder = new ProgramBuilder(model.program);
  const T = options.batch * options.sequence;
  const labels = model.labels as number;
  const seed = builder.value("seed", T * 4);
  const divergenceSeed = model.distilled && builder.value("divergence seed", T * 4);
  const scales = builder.value("scales", 8);
  const isFed = options.statistics === "fed";
  const statistics = countsAllRanks(config, model)
    ? addStatistics(builder, model, { isFed, ranks: options.ranks ?? options.epSize })
    : undefined;
  const program = differentiateProgram(builder.build(`${config.arch} train`), {
    symbols: model.symbols,
    seeds: new Map([
      [model.output, seed],
      ...(model.distilled === undefined || divergenceSeed === undefined
        ? []
        : [[model.distilled.divergences, divergenceSeed] as const]),
    ]),
    scales,
    statistics: isFed ? statistics : undefined,
    stopAt: new Set([model.tokens, labels, ...model.noise]),
    recompute: options.recompute,
    splitWeightGradients: options.splitWeightGradients,
  });
  return { ...model, program, labels, seed, divergenceSeed, scales, statistics };
}

/** Whether the balance of experts adds to the loss; otherwise it is a figure to look at. */
export function hasBalanceLoss(config: ModelConfig): boolean {
  return (
    asksForBalanceLoss(config) && config.router_aux_loss_coef > 0 && config.architecture.routed !== "none"
  );
}

/** In place of a selection bias, or of groups of experts beside one. */
function asksForBalanceLoss({ balance, balance_groups }: ModelConfig): boolean {
  return balance === "aux" || balance_groups !== undefined;
}

/** Whether the balance loss counts all tokens of a step as one, however many micro-batches they are cut into. */
export function countsWholeStep(config: ModelConfig): boolean {
  return hasBalanceLoss(config) && config.balance_statistics === "global";
}

function countsAllRanks(config: ModelConfig, { routings }: ModelProgram): boolean {
  return asksForBalanceLoss(config) && config.balance_statistics !== "rank" && routings.length > 0;
}

function addStatistics(
  builder: ProgramBuilder,
  { routings: routes }: ModelProgram,
  { isFed, ranks }: { readonly isFed: boolean; readonly ranks: number },
): number {
  const { numExperts: N, numZeroExperts: Z } = routes[0].data.shape;
  const output = builder.value("statistics", routes.length * (N + Z) * 8);
  if (isFed) return output;
  const routings = routes.map(({ data }) => data.routing);
  builder.add({
    name: "statistics",
    kind: "statistics",
    reads: routings,
    writes: [output],
    // Counts and probability sums of each routing, and the number of tokens.
    work: { class: "statistics", flops: 0, bytes: (routings.length * 2 * (N + Z) + 1) * 4 * (ranks - 1) },
    data: { routings: routings.map((routing) => [routing]), output },
  });
  return output;
}

/**
 * What the statistics of a whole step must be counted with before its micro-batches go backward: the forward pass of
 * training as far as its gates.
 */
export function buildGatesProgram(config: ModelConfig, options: WireOptions): ModelProgram {
  const model = wireModel(config, { ...options, head: "losses" }, { withNoise: true });
  const program = pruneProgram(
    model.program,
    model.routings.map(({ data }) => data.routing),
    `${config.arch} gates`,
  );
  return { ...model, program };
}
