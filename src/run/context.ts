import type { Communicator, ExchangeResult, Pending } from "../comm/communicator.js";
import type { Tensor } from "../core/tensor.js";
import type { Engine } from "../engine/engine.js";
import type { Operator } from "../program/operator.js";
import type { Block, Memory } from "./memory.js";
import type { ParameterStore } from "./parameter-store.js";

/** What a value holds while it lives: its content, and the memory blocks to release with it. */
export interface Held {
  readonly content: unknown;
  readonly blocks: readonly Block[];
}

/** Scales that enter gradients; constant over a step. */
export interface LossScales {
  /** Coefficient of the balance loss × this micro-batch's share of the step. */
  readonly balance: number;
  readonly z: number;
}

/** Everything an action may touch. One per rank and step. */
export interface RunContext {
  readonly engine: Engine;
  readonly memory: Memory;
  readonly parameters: ParameterStore;
  /** All ranks, and the ranks that share one set of experts. */
  readonly world: Communicator;
  readonly ep: Communicator;
  /** The ranks that hold the same experts: data-parallel replicas of them. */
  readonly replicas: Communicator;
  readonly scales: LossScales;
  read<T>(value: number): T;
  tensor(value: number): Tensor<Float32Array>;
  write(value: number, content: unknown, blocks: readonly Block[]): void;
  /** Allocates a value's memory and writes it as a tensor. */
  writeTensor(value: number, dims: readonly number[]): Tensor<Float32Array>;
  /** Blocks a value holds, for a second value that shares them. */
  share(value: number): readonly Block[];
}

/** A transfer under way: the executor waits for it, then calls `finish` to publish its values. */
export interface NetworkJob {
  readonly pending: Pending;
  /** Bytes this rank sends to other ranks. */
  readonly bytes: number;
  finish(result: ExchangeResult): void;
}

export type Action = (op: Operator, context: RunContext) => NetworkJob | undefined;
