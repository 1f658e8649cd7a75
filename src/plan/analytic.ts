/** Operator costs from sizes and a cluster description: a roofline of matrix rate and memory rate, links by level. */
import type { ModelConfig } from "../model/config.js";
import type { Operator } from "../program/program.js";
import type { Cluster } from "../simulate/clusters.js";
import type { Costs } from "../simulate/costs.js";

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
function movedBytes(cost: string, w: Workload): number {
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
  return Math.max(intra, inter) + cluster.latencyMs;
}

export function analyticCosts(w: Workload, cluster: Cluster): Costs {
  const k = w.config.architecture.routed === "dual" ? 1 : w.config.topK;
  const rowBytes = (w.tokens * k * w.config.hidden_size * w.elementBytes) / w.chunks;
  return (op: Operator) => {
    const base = op.cost.replace(/'.*$/, "");
    if (op.stream === "network") {
      if (base === "dispatch" || base === "combine") return allToAllMs(rowBytes, w.epSize, cluster);
      return cluster.latencyMs;
    }
    // Backward: gradients of inputs and of weights cost what the forward pass costs, each; split operators have one of them.
    const passes = op.pass === "forward" ? 1 : op.cost.endsWith("w") || /'i$/.test(op.cost) ? 1 : 2;
    const compute = forwardFlops(base, w) / (cluster.flopsPerMs * cluster.computeEfficiency);
    return passes * (compute + movedBytes(base, w) / cluster.memoryBytesPerMs);
  };
}
