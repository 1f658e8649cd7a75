/** The program of a micro-batch in training: forward with gate noise and balance statistics, then its derivative. */
import { ProgramBuilder } from "../program/builder.js";
import type { BackwardOptions } from "../program/backward-walk.js";
import { differentiateProgram } from "../program/differentiate.js";
import type { ModelConfig } from "./config.js";
import { type ModelProgram, wireModel } from "./language-model.js";
import type { WireOptions } from "./wires.js";

/** The sizes of a training program, and how its backward half is derived. */
export interface TrainingOptions
  extends WireOptions, Pick<BackwardOptions, "recompute" | "splitWeightGradients"> {}

/** The program of a micro-batch in training, and the ids of the values that the caller feeds and reads. */
export interface TrainingProgram extends ModelProgram {
  readonly labels: number;
  /** Fed: gradient of each loss [T]. */
  readonly seed: number;
  /** Fed: scales of the auxiliary losses (`LossScales`). */
  readonly scales: number;
  /** Balance statistics over all ranks, when the auxiliary loss or the selection bias needs them. */
  readonly statistics?: number;
}

/** Wires a model for training: forward, balance statistics, and the derived backward half. */
export function buildTrainingProgram(config: ModelConfig, options: TrainingOptions): TrainingProgram {
  const model = wireModel(config, { ...options, head: "losses" }, { withNoise: true });
  const builder = new ProgramBuilder(model.program);
  const T = options.batch * options.sequence;
  const labels = model.labels as number;
  const seed = builder.value("seed", T * 4);
  const scales = builder.value("scales", 8);
  const statistics = addStatistics(builder, config, model, options.ranks ?? options.epSize);
  const program = differentiateProgram(builder.build(`${config.arch} train`), {
    symbols: model.symbols,
    seeds: new Map([[model.output, seed]]),
    scales,
    stopAt: new Set([model.tokens, labels, ...model.noise]),
    recompute: options.recompute,
    splitWeightGradients: options.splitWeightGradients,
  });
  return { ...model, program, labels, seed, scales, statistics };
}

function addStatistics(
  builder: ProgramBuilder,
  { balance, balance_statistics, num_experts: N }: ModelConfig,
  { routings: routes }: ModelProgram,
  ranks: number,
): number | undefined {
  const isWanted = balance === "bias" || (balance === "aux" && balance_statistics === "global");
  if (!isWanted || routes.length === 0) return undefined;
  const output = builder.value("statistics", routes.length * N * 8);
  const routings = routes.map(({ data }) => data.routing);
  builder.add({
    name: "statistics",
    kind: "statistics",
    reads: routings,
    writes: [output],
    // First choices, loads and probability sums of each routing, and the number of tokens.
    work: { class: "statistics", flops: 0, bytes: (routings.length * 3 * N + 1) * 4 * (ranks - 1) },
    data: { routings, output },
  });
  return output;
}
