import type { Communicator, ExchangeResult, Handle } from "../comm/communicator.js";
import type { Tensor } from "../core/tensor.js";
import type { Engine } from "../engine/engine.js";
import type { WeightForm } from "../kernel/quantise.js";
import type { RuleTable } from "../program/operator.js";
import type { Gradients } from "./gradients.js";
import type { Allocation, Memory } from "./memory.js";
import type { OperatorWeights } from "./operator-weights.js";
import type { Bucket } from "./weights.js";

/** What a value holds while it lives: its content, and the memory to release with it. */
export interface Held {
  readonly content: unknown;
  readonly allocations: readonly Allocation[];
}

/** What a rank lends to the operators of a session. */
export interface Services {
  readonly engine: Engine;
  readonly memory: Memory;
  readonly weights: OperatorWeights;
  /** Only where a program has a backward pass. */
  readonly gradients?: Gradients;
  /** Only where a program updates weights: the optimiser's step on one bucket, with what the program is fed. */
  readonly optimizer?: (bucket: Bucket, update: unknown) => void;
  /** All ranks, and the ranks that share one set of experts. */
  readonly world: Communicator;
  readonly ep: Communicator;
  /** The ranks that hold the same experts: data-parallel replicas of them. */
  readonly replicas: Communicator;
  /** Weights are part of the compiled kernels (they must not change afterwards), not inputs of theirs. */
  readonly hasFixedWeights?: boolean;
  /** In which form kernels hold fixed weights. Default "f32". */
  readonly form?: WeightForm;
}

/** What an operator may touch while it runs. */
export interface RunContext {
  read<T>(value: number): T;
  tensor(value: number): Tensor<Float32Array>;
  write(value: number, content: unknown, allocations: readonly Allocation[]): void;
  /** Allocates a value's memory and writes it as a tensor. */
  writeTensor(value: number, dims: readonly number[]): Tensor<Float32Array>;
  /** The memory a value holds, for a second value that shares it. */
  hold(value: number): readonly Allocation[];
}

/** Something under way beside the compute stream: the session waits for it, then calls `finish` to publish its values. */
export interface Transfer {
  readonly pending: Handle<ExchangeResult>;
  /** Transfers that share this arrive in the order they were started: a communicator, a device. */
  readonly queue: object;
  /** Bytes this rank sends to other ranks. */
  readonly bytes: number;
  finish(result: ExchangeResult): void;
}

/** Runs an operator once. What returns no transfer has finished. */
export type Run = (context: RunContext) => Transfer | undefined;

/** How each kind of operator is bound to a rank, once per session: kernels are compiled and parameters found here. */
export type ActionTable = RuleTable<[services: Services], Run>;

/** A run that never leaves anything under way. */
export function computing(run: (context: RunContext) => void): Run {
  return (context) => {
    run(context);
    return undefined;
  };
}
