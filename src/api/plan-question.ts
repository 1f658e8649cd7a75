/** What a plan is asked: options with their defaults, checked. */
import { BOUNDS, checkBounds, defaultSequence } from "../core/bounds.js";
import { greatestDivisor } from "../core/divisor.js";
import { InputError } from "../core/errors.js";
import type { Kernel } from "../kernel/kernel.js";
import { type ModelConfig, type ModelInput, resolveModel } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { ParameterInfo } from "../model/parts/part.js";
import { preset } from "../model/presets.js";
import type { Calibration } from "../simulate/calibration.js";
import { type Cluster, cluster } from "../simulate/clusters.js";

/** What to predict, where. */
export interface PlanOptions {
  /** A preset's name, or a model; its `arch` is replaced by that of each case, and with it k and the coefficient gate. */
  readonly model: string | ModelInput;
  /** A cluster's name, or its description. Default 8xA800-NVLink; with a calibration the machine calibrated. */
  readonly cluster?: string | Cluster | undefined;
  /** Measured rates in place of the cluster's stated ones. */
  readonly calibration?: Calibration | undefined;
  /** One row each; speed-up is over the first. */
  readonly cases?: readonly { readonly arch: string; readonly policy: string }[] | undefined;
  /** Sequences per rank. Default 8. */
  readonly batch?: number | undefined;
  /** Tokens per sequence. Default: the model's longest. */
  readonly sequence?: number | undefined;
  /** Ranks that share one copy of the experts. Default: as many as divide both experts and devices. */
  readonly epSize?: number | undefined;
  /** Forward and backward (the default), or the loss only. */
  readonly mode?: "train" | "forward" | undefined;
  /** Largest over mean load of a rank's experts, at least 1 (balanced, the default). */
  readonly imbalance?: number | undefined;
  /** Steps to average over when experts are uneven. Default 8. */
  readonly steps?: number | undefined;
  /** Achieved shares of the device's matrix rate and of the links' rates, from 0 to 1. Default: the cluster's. */
  readonly efficiency?: number | undefined;
  readonly linkEfficiency?: number | undefined;
  /** Block activations are recomputed in the backward pass. Default false. */
  readonly recompute?: boolean | undefined;
  /** Optimiser states are spread over the ranks (ZeRO-1). Default false. */
  readonly zero?: boolean | undefined;
  /** Bytes of an activation or weight element. Default 2; with a calibration, 4. */
  readonly elementBytes?: 2 | 4 | undefined;
}

/** A model of some architecture, and its parameters. */
export interface PlannedModel {
  readonly config: ModelConfig;
  readonly parameters: readonly ParameterInfo[];
  /** Of its parts, as far as a program has needed them: they do not depend on the sizes of a micro-batch. */
  readonly kernels: Map<string, Kernel>;
}

/** Options with their defaults. */
export interface Question {
  readonly batch: number;
  readonly sequence: number;
  readonly epSize: number;
  readonly mode: "train" | "forward";
  readonly imbalance: number;
  readonly steps: number;
  readonly elementBytes: 2 | 4;
  readonly recompute: boolean;
  readonly zero: boolean;
  readonly ranks: number;
  readonly model: ModelInput;
  readonly cluster: Cluster;
  readonly calibration: Calibration | undefined;
  /** The model under an architecture. @throws InputError when there is no such model */
  readonly modelOf: (arch: string) => PlannedModel;
}

const MOST_DEVICES = BOUNDS.devices.to;

/**
 * What is asked, in full.
 * @throws InputError on an unknown name, a number out of bounds, or when the model does not fit the cluster
 */
export function withDefaults(options: PlanOptions): Question {
  checkBounds("plan", options, {
    batch: BOUNDS.batch,
    sequence: BOUNDS.sequence,
    epSize: BOUNDS.epSize,
    imbalance: BOUNDS.imbalance,
    steps: BOUNDS.simulatedSteps,
    efficiency: BOUNDS.efficiency,
    linkEfficiency: BOUNDS.efficiency,
  });
  const { calibration, batch = 8, steps = 8, imbalance = 1, mode = "train" } = options;
  const { recompute = false, zero = false } = options;
  const model = typeof options.model === "string" ? preset(options.model) : options.model;
  const { sequence = defaultSequence(model.max_position_embeddings) } = options;
  // Calibrated rates are of f32.
  const { elementBytes = calibration === undefined ? 2 : 4 } = options;
  const described = describe(options);
  const ranks = described.devicesPerNode * described.nodes;
  const epSize = options.epSize ?? greatestDivisor(ranks, model.num_experts ?? 8);
  if (ranks > MOST_DEVICES)
    throw new InputError(
      `${described.name} has ${described.nodes} nodes × ${described.devicesPerNode} devices; at most ${MOST_DEVICES} devices can be simulated`,
    );
  if (ranks % epSize !== 0)
    throw new InputError(
      `Expert-parallel size ${epSize} does not divide the ${ranks} devices of ${described.name}`,
    );
  if (imbalance > epSize)
    throw new InputError(
      `imbalance is ${imbalance}; the busiest of ${epSize} ranks has at most all rows, ${epSize} × the mean`,
    );
  return {
    batch,
    sequence,
    epSize,
    ranks,
    model,
    cluster: described,
    calibration,
    mode,
    imbalance,
    steps,
    elementBytes,
    recompute,
    zero,
    modelOf: modelsOf(model),
  };
}

/** The model as it is, or another architecture of its sizes; each made once. */
function modelsOf(input: ModelInput): Question["modelOf"] {
  const known = new Map<string, PlannedModel>();
  const { coefficient_gate: _gate, num_experts_per_tok: _k, ...model } = input;
  return (arch) => {
    let found = known.get(arch);
    if (found === undefined) {
      const config = resolveModel(arch === input.arch ? input : { ...model, arch });
      known.set(
        arch,
        (found = { config, parameters: listParameters(config), kernels: new Map<string, Kernel>() }),
      );
    }
    return found;
  };
}

/** The cluster asked for, with calibrated links; a calibration alone describes ranks that are nodes of their own. */
function describe({ cluster: asked, calibration, efficiency, linkEfficiency }: PlanOptions): Cluster {
  const usual = cluster("8xA800-NVLink");
  const alone = calibration && {
    ...usual,
    name: `${calibration.ranks} calibrated ranks`,
    nodes: calibration.ranks,
    devicesPerNode: 1,
    // Of a machine that has been measured, not described.
    memoryBytes: undefined,
  };
  const base = typeof asked === "string" ? cluster(asked) : (asked ?? alone ?? usual);
  const link = calibration?.link;
  const measured = link && {
    intraBytesPerMs: link.bytes_per_ms,
    interBytesPerMs: link.bytes_per_ms,
    uplinkBytesPerMs: undefined,
    latencyMs: link.latency_ms,
    linkEfficiency: 1,
  };
  checkBounds(`cluster ${base.name}`, base, {
    devicesPerNode: BOUNDS.devices,
    nodes: BOUNDS.devices,
    flopsPerMs: BOUNDS.rate,
    memoryBytesPerMs: BOUNDS.rate,
    memoryBytes: BOUNDS.rate,
    intraBytesPerMs: BOUNDS.rate,
    interBytesPerMs: BOUNDS.rate,
    uplinkBytesPerMs: BOUNDS.rate,
    latencyMs: BOUNDS.latencyMs,
    computeEfficiency: BOUNDS.efficiency,
    linkEfficiency: BOUNDS.efficiency,
  });
  return {
    ...base,
    ...measured,
    computeEfficiency: efficiency ?? base.computeEfficiency,
    ...(linkEfficiency === undefined ? {} : { linkEfficiency }),
  };
}
