/** A question to the planner with its defaults: which architecture, under which policy, on which cluster? */
import { InputError } from "../core/errors.js";
import type { ModelInput } from "../model/config.js";
import { preset } from "../model/presets.js";
import { type Cluster, cluster } from "../simulate/clusters.js";
import type { Calibration } from "../simulate/calibration.js";
import { type PlanOptions as Task, type PlanRow, plan as planCases } from "./plan.js";

/** Architecture and policy pairs that are compared where none are named: the first is the baseline. */
export const DEFAULT_CASES = [
  { arch: "top2", policy: "sequential" },
  { arch: "top2", policy: "pipelined(2)" },
  { arch: "shared", policy: "sequential" },
  ...[1, 2, 3].map((position) => ({ arch: `scmoe-pos${position}`, policy: "adaptive" })),
] as const;

/** What to predict, where. */
export interface PlanOptions {
  /** A preset's name, or a model; its `arch` is replaced by that of each case. */
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
  /** Ranks that share one copy of the experts. Default: the experts, at most all devices. */
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
  /** Bytes of an activation or weight element. Default 2; with a calibration, 4. */
  readonly elementBytes?: 2 | 4 | undefined;
}

/** Predicted steps, and what they were predicted for. */
export interface Prediction {
  /** In the order asked for. */
  readonly rows: readonly PlanRow[];
  /** With calibrated rates and the shares asked for. */
  readonly cluster: Cluster;
  readonly epSize: number;
}

/**
 * Predicts the step of each architecture under its policy: costs from sizes and the cluster's rates, ordered by the
 * policy, run by the simulator.
 * @throws InputError on an unknown name, or when the model does not fit the cluster
 */
export function plan(options: PlanOptions): Prediction {
  const { calibration, imbalance = 1, mode = "train" } = options;
  const model = typeof options.model === "string" ? preset(options.model) : options.model;
  const described = describe(options);
  const devices = described.devicesPerNode * described.nodes;
  const epSize = options.epSize ?? Math.min(devices, model.num_experts ?? 8);
  if (epSize < 1 || devices % epSize !== 0)
    throw new InputError(
      `Expert-parallel size ${epSize} does not divide the ${devices} devices of ${described.name}`,
    );
  if (imbalance < 1) throw new InputError(`imbalance is at least 1; found ${imbalance}`);
  const task: Task = {
    model,
    cluster: described,
    calibration,
    cases: options.cases ?? DEFAULT_CASES,
    batch: options.batch ?? 8,
    sequence: options.sequence ?? model.max_position_embeddings,
    epSize,
    mode,
    imbalance,
    steps: Math.max(1, options.steps ?? 8),
    // Calibrated rates are of f32.
    elementBytes: options.elementBytes ?? (calibration === undefined ? 2 : 4),
  };
  return { rows: planCases(task), cluster: described, epSize };
}

/** The cluster asked for, with calibrated links; a calibration alone describes ranks that are nodes of their own. */
function describe({ cluster: asked, calibration, efficiency, linkEfficiency }: PlanOptions): Cluster {
  const usual = cluster("8xA800-NVLink");
  const alone = calibration && {
    ...usual,
    name: `${calibration.ranks} calibrated ranks`,
    nodes: calibration.ranks,
    devicesPerNode: 1,
  };
  const base = typeof asked === "string" ? cluster(asked) : (asked ?? alone ?? usual);
  const link = calibration?.link;
  const measured =
    link === undefined
      ? {}
      : {
          intraBytesPerMs: link.bytes_per_ms,
          interBytesPerMs: link.bytes_per_ms,
          uplinkBytesPerMs: undefined,
          latencyMs: link.latency_ms,
          linkEfficiency: 1,
        };
  return {
    ...base,
    ...measured,
    computeEfficiency: efficiency ?? base.computeEfficiency,
    ...(linkEfficiency === undefined ? {} : { linkEfficiency }),
  };
}
