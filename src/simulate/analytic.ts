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
}

/** How many ranks meet in a transfer. */
export function groupSize(op: Operator, ranks: number): number {
  return op.kind === "transfer" ? op.data.shape.epSize : ranks;
}

/** Bytes that go from a rank to each of the others it meets in a transfer, evenly spread. */
export function bytesPerPeer(op: Operator, ranks: number): number {
  const size = groupSize(op, ranks);
  return size === 1 ? 0 : op.work.bytes / (size - 1);
}

/**
 * Costs of operators from their work and a cluster's rates.
 * @throws InputError from the costs, for an operator that a cluster's description says nothing about
 */
export function analyticCosts(options: AnalyticOptions): Costs {
  const known = new Map<string, number>();
  return (op) => {
    let ms = known.get(op.cost);
    if (ms === undefined) known.set(op.cost, (ms = analyticCost(op, options)));
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
  return Math.max(work.flops / rate, (work.bytes * elementBytes) / 4 / memoryRate);
}

/** Each rank to each it meets, within and between nodes at once; ranks of a node may share one way out. */
function transferMs(op: Operator, { cluster, ranks }: AnalyticOptions): number {
  const size = groupSize(op, ranks);
  const perPeer = bytesPerPeer(op, ranks);
  if (perPeer === 0) return 0;
  const local = Math.min(size, cluster.devicesPerNode);
  const { intraBytesPerMs, interBytesPerMs, uplinkBytesPerMs, linkEfficiency, latencyMs } = cluster;
  const intra = (perPeer * (local - 1)) / intraBytesPerMs;
  const inter = (perPeer * (size - local)) / interBytesPerMs;
  const shared = uplinkBytesPerMs === undefined ? 0 : (local * perPeer * (size - local)) / uplinkBytesPerMs;
  return Math.max(intra, inter, shared) / linkEfficiency + latencyMs;
}
