/** Operator costs from their work and a cluster description (method 8.6): a roofline of matrix rate and memory rate, links by level. */
import { InputError } from "../core/errors.js";
import type { Operator } from "../program/operator.js";
import { type Calibration, rateName } from "./calibration.js";
import type { Cluster } from "./clusters.js";
import type { Costs } from "./costs.js";

/** What costs are worked out for. */
export interface AnalyticOptions {
  readonly cluster: Cluster;
  /** Measured rates that replace the cluster's stated ones, class by class. */
  readonly calibration?: Calibration;
  /** Bytes of an activation or weight element on the devices; a program counts 4. */
  readonly elementBytes: number;
  /** Ranks that meet in what all ranks do together (gradient reduction). */
  readonly ranks: number;
  /** Ranks that share one copy of the experts: copies of an expert are so far from each other. Default 1. */
  readonly epSize?: number;
}

/** Ranks there are, and how they lie in nodes. */
export interface RankLayout extends Pick<AnalyticOptions, "ranks" | "epSize"> {
  readonly devicesPerNode: number;
}

/** What a transfer takes from a rank to others, in bytes, evenly spread. */
export interface LevelBytes {
  /** To ranks of its node, and to those of other nodes. */
  readonly intra: number;
  readonly inter: number;
  /** Ranks of a node that do the same at the same time. */
  readonly sharers: number;
}

/** Bytes that go from a rank to each of those that share the experts with it, evenly spread. */
export function bytesPerPeer(op: Operator): number {
  const size = op.kind === "transfer" ? op.data.shape.epSize : 1;
  return size === 1 ? 0 : op.work.bytes / (size - 1);
}

/**
 * Rows go straight to whom they are for. Gradients are summed within nodes first, so that of a bucket each device takes its
 * own part to other nodes, and back in the same way.
 */
export function levelBytes(op: Operator, { ranks, epSize = 1, devicesPerNode }: RankLayout): LevelBytes {
  if (op.kind === "reduce-scatter" || op.kind === "all-gather") {
    const isWorld = op.data.group === "world";
    const members = isWorld ? ranks : ranks / epSize;
    const inNode = isWorld ? devicesPerNode : Math.max(1, Math.floor(devicesPerNode / epSize));
    const local = Math.min(members, inNode);
    const nodes = members / local;
    const bucket = members === 1 ? 0 : (op.work.bytes * members) / (members - 1);
    return {
      intra: (bucket * (local - 1)) / local,
      inter: ((bucket / local) * (nodes - 1)) / nodes,
      sharers: Math.min(ranks, devicesPerNode),
    };
  }
  const size = op.kind === "transfer" ? op.data.shape.epSize : ranks;
  const local = Math.min(size, devicesPerNode);
  const perPeer = size === 1 ? 0 : op.work.bytes / (size - 1);
  return {
    intra: perPeer * (local - 1),
    inter: perPeer * (size - local),
    sharers: Math.min(ranks, devicesPerNode),
  };
}

/** Equal for operators that do the same work among the same ranks. */
export function trafficKey(op: Operator): string {
  return op.kind === "reduce-scatter" || op.kind === "all-gather" ? `${op.data.group} ${op.cost}` : op.cost;
}

/**
 * Costs of operators from their work and a cluster's rates.
 * @throws InputError from the costs, for an operator that a cluster's description says nothing about
 */
export function analyticCosts(options: AnalyticOptions): Costs {
  const known = new Map<string, number>();
  return (op) => {
    const key = trafficKey(op);
    let ms = known.get(key);
    if (ms === undefined) known.set(key, (ms = analyticCost(op, options)));
    return ms;
  };
}

function analyticCost(op: Operator, options: AnalyticOptions): number {
  if (op.stream === "compute") return computeMs(op, options);
  if (op.stream === "network") return transferMs(op, options);
  throw new InputError(
    `No cost is known of ${op.name}: ${options.cluster.name} does not say how fast its storage is`,
  );
}

function computeMs({ pass, work }: Operator, options: AnalyticOptions): number {
  const { cluster, calibration, elementBytes } = options;
  const measured = calibration?.flops_per_ms[rateName({ pass, work })];
  // A measured rate of matrix work has the bytes that the kernel moves in it already.
  if (measured !== undefined && work.flops > 0) return work.flops / measured;
  const rate = cluster.flopsPerMs * cluster.computeEfficiency;
  const memoryRate = calibration?.memory_bytes_per_ms ?? cluster.memoryBytesPerMs;
  // The optimiser's state is f32 whatever the devices compute with, and its work says so.
  const bytes = work.class === "update" ? work.bytes : (work.bytes * elementBytes) / 4;
  return Math.max(work.flops / rate, bytes / memoryRate);
}

/** Within and between nodes at once; ranks of a node may share one way out. */
function transferMs(op: Operator, { cluster, ranks, epSize }: AnalyticOptions): number {
  const { devicesPerNode, intraBytesPerMs, interBytesPerMs, uplinkBytesPerMs, linkEfficiency, latencyMs } =
    cluster;
  const { intra, inter, sharers } = levelBytes(op, { ranks, epSize, devicesPerNode });
  if (intra + inter === 0) return 0;
  const shared = uplinkBytesPerMs === undefined ? 0 : (sharers * inter) / uplinkBytesPerMs;
  return Math.max(intra / intraBytesPerMs, inter / interBytesPerMs, shared) / linkEfficiency + latencyMs;
}
