/** Operator costs from sizes and a cluster description: a roofline of matrix rate and memory rate, links by level. */
import type { ModelConfig } from "../model/config.js";
import type { Operator } from "../program/operator.js";
import type { Cluster } from "../simulate/clusters.js";
import type { Costs } from "../simulate/costs.js";
import type { Calibration } from "./calibration.js";

export interface Workload {
  readonly config: ModelConfig;
  /** Tokens per rank and micro-batch. */
  readonly tokens: number;
  readonly sequence: number;
  readonly epSize: number;
  readonly chunks: number;
  /** Bytes of an activation or weight element. */
  readonly elementBytes: number;
}

/** Classes of operators whose time is matrix work. */
export const MATRIX_CLASSES: readonly string[] = ["attention", "mlp", "shared", "expert", "gate", "head"];

/** Bytes of the rows that a rank sends to experts, its own included. */
export function rowsBytes(w: Workload): number {
  const k = w.config.architecture.routed === "dual" ? 1 : w.config.topK;
  return (w.tokens * k * w.config.hidden_size * w.elementBytes) / w.chunks;
}

/** Floating-point operations of a class, forward, on one rank with balanced routing. */
export function forwardFlops(cost: string, w: Workload): number {
  const { hidden_size: D, style, num_attention_heads, num_key_value_heads, headDim } = w.config;
  const [queries, keys] = [num_attention_heads * headDim, num_key_value_heads * headDim];
  const T = w.tokens;
  const matrices = style === "gpt" ? 2 : 3;
  const mlp = (rows: number, F: number): number => 2 * rows * D * F * matrices;
  const k = w.config.architecture.routed === "dual" ? 1 : w.config.topK;
  switch (cost) {
    case "attention":
      // Causal: half of the scores.
      return 2 * T * D * (2 * queries + 2 * keys) + 2 * T * w.sequence * queries;
    case "mlp":
      return mlp(T, w.config.intermediate_size);
    case "shared":
      return mlp(T, w.config.shared_expert_intermediate_size);
    case "expert":
      return mlp((T * k) / w.chunks, w.config.moe_intermediate_size);
    case "gate":
      return 2 * T * D * w.config.num_experts;
    case "head":
      return 2 * T * D * w.config.vocab_size;
    default:
      return 0;
  }
}

/** Bytes moved through device memory beyond what matrix work hides: rows gathered, scattered, normalised. */
export function movedBytes(cost: string, w: Workload): number {
  const row = w.config.hidden_size * w.elementBytes;
  const k = w.config.architecture.routed === "dual" ? 1 : w.config.topK;
  if (cost === "encode") return (2 * w.tokens * k * row) / w.chunks;
  if (cost === "decode") return (k + 2) * w.tokens * row;
  if (cost === "route") return 16 * w.tokens * w.config.num_experts;
  return 4 * w.tokens * row;
}

/** Milliseconds that a message of `bytes` per rank takes in an All-to-All among `epSize` ranks. */
export function allToAllMs(bytes: number, epSize: number, cluster: Cluster): number {
  if (epSize === 1) return 0;
  const local = Math.min(epSize, cluster.devicesPerNode);
  const intra = (bytes * (local - 1)) / epSize / (cluster.intraBytesPerMs * cluster.linkEfficiency);
  const inter = (bytes * (epSize - local)) / epSize / (cluster.interBytesPerMs * cluster.linkEfficiency);
  const { uplinkBytesPerMs } = cluster;
  const shared =
    uplinkBytesPerMs === undefined
      ? 0
      : (local * bytes * (epSize - local)) / epSize / (uplinkBytesPerMs * cluster.linkEfficiency);
  return Math.max(intra, inter, shared) + cluster.latencyMs;
}

/** @param calibration measured rates that replace the cluster's stated ones, class by class */
export function analyticCosts(w: Workload, cluster: Cluster, calibration?: Calibration): Costs {
  const known = new Map<string, number>();
  const of = (op: Operator): number => {
    const base = op.cost.replace(/'.*$/, "");
    if (op.stream === "network") {
      if (base === "dispatch" || base === "combine") return allToAllMs(rowsBytes(w), w.epSize, cluster);
      return cluster.latencyMs;
    }
    const rate = calibration?.flops_per_ms[base] ?? cluster.flopsPerMs * cluster.computeEfficiency;
    const moved = movedBytes(base, w) / (calibration?.memory_bytes_per_ms ?? cluster.memoryBytesPerMs);
    // A measured rate of matrix work has the bytes that the kernel moves in it already.
    const isMeasured = calibration?.flops_per_ms[base] !== undefined;
    const forward = forwardFlops(base, w) / rate + (isMeasured ? 0 : moved);
    if (op.pass === "forward") return forward;
    // Gradients of inputs and of weights cost what the forward pass costs, each; split operators have one of them.
    const backward = forward * (calibration?.backward_ratio[base] ?? 2);
    return /'[iw]$/.test(op.cost) ? backward / 2 : backward;
  };
  return (op) => {
    const key = `${op.stream} ${op.cost}`;
    let ms = known.get(key);
    if (ms === undefined) known.set(key, (ms = of(op)));
    return ms;
  };
}
