/**
 * The kinds of operators and what each carries beside its reads and writes. T = tokens of a rank's micro-batch, D = width,
 * N = experts, K = kept choices. Numbers that are not sizes are ids of values.
 */
import type { Kernel } from "../kernel/kernel.js";

/** By kind. A prime marks the derivative of a kind. */
export interface KindData {
  readonly embed: EmbedData;
  readonly "embed'": EmbedBackwardData;
  readonly kernel: KernelData;
  readonly "kernel'": KernelData;
  readonly route: RouteData;
  readonly "route'": RouteBackwardData;
  readonly encode: EncodeData;
  readonly "encode'": EncodeBackwardData;
  readonly transfer: TransferData;
  readonly expert: ExpertData;
  readonly "expert'": ExpertBackwardData;
  readonly decode: DecodeData;
  readonly "decode'": DecodeBackwardData;
  readonly sum: SumData;
  readonly statistics: StatisticsData;
  readonly "reduce-scatter": ScatterData;
  readonly "reduce-sum": SumSlicesData;
  readonly "all-gather": GatherData;
  readonly update: UpdateData;
}

/** Where a kernel parameter lives: one tensor, or several that lie one after another in memory (q, k, v). */
export type ParameterSpan = readonly string[];

/** A kernel, forward or backward (or a half of that), and what its inputs, outputs and parameters are. */
export interface KernelData {
  readonly kernel: Kernel;
  /** Kernel input name → value id. Backward: originals, saved activations, `d_<output>`; `t_…` from the input half. */
  readonly inputs: Readonly<Record<string, number>>;
  /** Kernel output name → value id: in training with saved activations; backward `d_<input>`, and `t_…` for the weight half. */
  readonly outputs: Readonly<Record<string, number>>;
  readonly parameters: Readonly<Record<string, ParameterSpan>>;
}

/**
 * A learned vector per position, added to the rows: row t of a micro-batch is in place t mod `period` of its sequence, and that
 * is its position; with `starts`, where in its sequence each row's document begins, [B, S], it is counted from there.
 */
export interface LearnedPositions {
  readonly table: string;
  readonly period: number;
  readonly starts?: number | undefined;
  /** Instead: the rows' positions, T of them. */
  readonly at?: number | undefined;
}

export interface EmbedData {
  readonly tokens: number;
  readonly output: number;
  readonly embedding: string;
  readonly positions?: LearnedPositions;
  /** A token whose vector gets no gradient. */
  readonly padding?: number;
}
export interface EmbedBackwardData extends Omit<EmbedData, "output"> {
  readonly gradient: number;
}

/** Static facts of one MoE sub-layer's routing, shared by all operators of the sub-layer. */
export interface MoeShape {
  readonly layer: number;
  readonly numExperts: number;
  readonly topK: number;
  /** Rows per expert and rank, or null for dropless. */
  readonly capacityFactor: number | null;
  readonly renormalize: boolean;
  /** What logits become; the choice and the weights are made of it. */
  readonly scores: "softmax" | "sigmoid";
  /** Factor of every weight. */
  readonly scaling: number;
  /** Experts in groups of neighbours, of which a token's `kept` best are chosen from; undefined: one group. */
  readonly groups?: { readonly count: number; readonly kept: number; readonly score: "best" | "two_best" };
  /** Logits after those of the experts, for experts that give their input back. */
  readonly numZeroExperts: number;
  /** Of a token's choices, how many are expected, and wanted, not to be zero experts. */
  readonly activeExperts: number;
  /** The balance loss counts tokens of so many groups of neighbouring experts, and of the zero experts; undefined: of experts. */
  readonly balanceGroups?: number;
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
  /** A routing whose first choice this one must not choose, token by token (DGMoE, method 5.5). */
  readonly avoid?: number;
  readonly routing: number;
  /** Kept gate weights [T, K]; a value of its own because gradients flow through it. */
  readonly weights: number;
}

export interface RouteBackwardData {
  readonly shape: MoeShape;
  readonly routing: number;
  readonly dWeights: number;
  readonly dLogits: number;
  /** Scales of the auxiliary losses, fed to the program (`LossScales`). */
  readonly scales: number;
  /** Index of this routing among the program's, each of which has an equal share of the auxiliary losses. */
  readonly index: number;
  readonly numRoutings: number;
  /** Statistics summed over ranks, when balance is global. */
  readonly statistics?: number;
}

/** Scales that enter gradients; constant over a step. */
export interface LossScales {
  /** Coefficient of the balance loss × this micro-batch's share of the step. */
  readonly balance: number;
  readonly z: number;
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
  readonly kernel: Kernel;
  /** Kernel parameter → tensor names, with "{e}" where the expert's index goes. */
  readonly parameters: Readonly<Record<string, ParameterSpan>>;
  readonly arrived: number;
  readonly counts: number;
  readonly output: number;
  /** In training: permuted input rows and saved activations, kept for backward. */
  readonly saved?: number;
}
/**
 * If the backward pass of experts is split, the input half leaves `carried` to the weight half: the incoming gradient's rows,
 * and the intermediate results that both need.
 */
export type ExpertBackwardData = {
  readonly forward: ExpertData & { readonly saved: number };
  readonly kernel: Kernel;
} & (
  | { readonly part: "both"; readonly dOutput: number; readonly dArrived: number }
  | { readonly part: "input"; readonly dOutput: number; readonly dArrived: number; readonly carried: number }
  /** `input` is the kernel of the other half: it knows the shapes of what was carried. */
  | { readonly part: "weight"; readonly carried: number; readonly input: Kernel }
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
  /** What zero experts give back, the gate's normalised rows, [T, D]; undefined where there are none. */
  readonly identity?: number;
  readonly output: number;
}
export interface DecodeBackwardData {
  readonly forward: DecodeData;
  readonly dOutput: number;
  readonly dRows: readonly number[];
  readonly dWeights: number;
  readonly dScale?: number;
  readonly dIdentity?: number;
}

export interface SumData {
  /** Summed left to right. */
  readonly operands: readonly number[];
  readonly output: number;
}

/** Sums the routing statistics of all routings over all ranks of the world. */
export interface StatisticsData {
  /** Of each of the model's routings: those of every micro-batch that is counted. */
  readonly routings: readonly (readonly number[])[];
  readonly output: number;
}

/** Ranks that meet in a transfer: all, those that share one set of experts, those that hold copies of the same experts. */
export type Group = "world" | "ep" | "replicas";

/** A piece of a bucket: the `piece`-th of `pieces` equal parts of every rank's slice. */
export interface PieceData {
  readonly bucket: string;
  readonly group: Group;
  readonly piece: number;
  readonly pieces: number;
  /** Type of the numbers on the network. */
  readonly wire: "f32" | "bf16";
}
/** Slices of gradients to their owners. */
export interface ScatterData extends PieceData {
  readonly output: number;
}
/** What arrived is summed in rank order. */
export interface SumSlicesData extends PieceData {
  readonly input: number;
  /** Leaves what the wire can carry, so that the owner has the bits that it will send to the others. */
  readonly isRounded: boolean;
}
/** Every rank's slice to every rank: of summed gradients, or (ZeRO-1) of updated weights. */
export interface GatherData extends PieceData {
  readonly part: "gradients" | "weights";
}

/** The optimiser's step on what this rank updates of a bucket. */
export interface UpdateData {
  readonly bucket: string;
  /** Fed: what all buckets are updated with (`train/optimizer.ts`). */
  readonly update: number;
  /** Leaves gradients at zero, for those of the next step. */
  readonly clears: boolean;
}
