/**
 * The operator kinds and what each carries. A kind is three things: this data, a backward rule (`differentiate.ts`),
 * and an action in the executor (`run/actions`). T = tokens of a rank's micro-batch, D = width, N = experts, K = kept choices.
 */
import type { Differentiated } from "../kernel/differentiate.js";

/** Where a kernel parameter lives: one tensor, or several that lie one after another in memory (q, k, v). */
export type ParameterSpan = readonly string[];

export interface KernelData {
  readonly kernel: Differentiated;
  /** Kernel input name → value id. */
  readonly inputs: Readonly<Record<string, number>>;
  /** Kernel output name (saved ones included) → value id. */
  readonly outputs: Readonly<Record<string, number>>;
  readonly parameters: Readonly<Record<string, ParameterSpan>>;
}

export interface KernelBackwardData {
  readonly kernel: Differentiated;
  /** Which half of the backward kernel: both, input gradients only, weight gradients only. */
  readonly part: "both" | "input" | "weight";
  /** Backward kernel input name (originals, saved, d_<output>; t_… from the input half) → value id. */
  readonly inputs: Readonly<Record<string, number>>;
  /** d_<input>, and t_… for the weight half → value id. */
  readonly outputs: Readonly<Record<string, number>>;
  readonly parameters: Readonly<Record<string, ParameterSpan>>;
}

export interface EmbedData {
  readonly tokens: number;
  readonly output: number;
  readonly embedding: string;
  readonly positions?: string;
}

/** Static facts of one MoE sub-layer's routing, shared by all operators of the sub-layer. */
export interface MoeShape {
  readonly layer: number;
  readonly numExperts: number;
  readonly topK: number;
  /** Rows per expert and rank, or null for dropless. */
  readonly capacityFactor: number | null;
  readonly renormalize: boolean;
  /** Name of the selection bias of bias-based balancing, or undefined. */
  readonly selectionBias?: string;
  readonly width: number;
  readonly epSize: number;
  readonly wire: "f32" | "bf16";
}

/** A routing: which rows go to which expert, from the logits of a gate. */
export interface RouteData {
  readonly shape: MoeShape;
  readonly logits: number;
  /** DGMoE: the other routing whose first choice this one must avoid. */
  readonly avoid?: number;
  readonly routing: number;
  /** Kept gate weights [T, K]; a value of its own because gradients flow through it. */
  readonly weights: number;
  /** Share of the mean over MoE layers that this routing's auxiliary losses have. */
  readonly lossShare: number;
  /** Index of this routing in the step's balance statistics. */
  readonly index: number;
}

export interface RouteBackwardData {
  readonly forward: RouteData;
  readonly dWeights: number;
  readonly dLogits: number;
  /** Statistics summed over ranks, when balance is global. */
  readonly statistics?: number;
}

/** Rows of a token range: `chunk` of `chunks`. */
export interface ChunkData {
  readonly shape: MoeShape;
  readonly chunk: number;
  readonly chunks: number;
}

export interface EncodeData extends ChunkData {
  readonly input: number;
  readonly routing: number;
  readonly send: number;
}
export interface EncodeBackwardData {
  readonly shape: MoeShape;
  readonly chunks: number;
  readonly routing: number;
  /** One gradient buffer per chunk, in chunk order. */
  readonly dSend: readonly number[];
  readonly dInput: number;
}

/** Rows to the experts' owners (forward dispatch, backward of combine) or back (combine, backward of dispatch). */
export interface TransferData extends ChunkData {
  readonly direction: "to-experts" | "to-tokens";
  /** Whether the rows per expert travel ahead of the rows (only in the first transfer of a routing). */
  readonly bringsCounts: boolean;
  readonly routing: number;
  readonly input: number;
  /** Rows per source rank and local expert: written by the dispatch, read by everything after it. */
  readonly counts: number;
  readonly output: number;
}

export interface ExpertData extends ChunkData {
  readonly kernel: Differentiated;
  /** Kernel parameter → tensor names, with "{e}" where the expert's index goes. */
  readonly parameters: Readonly<Record<string, ParameterSpan>>;
  readonly arrived: number;
  readonly counts: number;
  readonly output: number;
  /** Permuted input rows and saved activations, kept for backward. */
  readonly saved: number;
}
/** The halves of a split backward pass hand over `carried`: the rows of the incoming gradient and what led to the input gradients. */
export type ExpertBackwardData = { readonly forward: ExpertData } & (
  | { readonly part: "both"; readonly dOutput: number; readonly dArrived: number }
  | { readonly part: "input"; readonly dOutput: number; readonly dArrived: number; readonly carried: number }
  | { readonly part: "weight"; readonly carried: number }
);

export interface DecodeData {
  readonly shape: MoeShape;
  readonly chunks: number;
  readonly routing: number;
  readonly weights: number;
  readonly rows: readonly number[];
  /** The stream the routed rows are added to, [T, D]. */
  readonly base: number;
  /** Coefficient of the routed sum, [T, 1] (CG-2), or undefined. */
  readonly scale?: number;
  readonly output: number;
}
export interface DecodeBackwardData {
  readonly forward: DecodeData;
  readonly dOutput: number;
  readonly dRows: readonly number[];
  readonly dWeights: number;
  readonly dScale?: number;
}

export interface SumData {
  /** Summed left to right. */
  readonly operands: readonly number[];
  readonly output: number;
}

/** Sums the routing statistics of all routings over all ranks of the world. */
export interface StatisticsData {
  readonly routings: readonly number[];
  readonly output: number;
}

/** One bucket of gradients: slices to their owners, summed there in rank order, gathered. */
export interface ReduceData {
  readonly bucket: string;
  readonly phase: "scatter" | "sum" | "gather";
  readonly input?: number;
  readonly output?: number;
}
