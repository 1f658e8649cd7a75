import type { Executable } from "../engine/engine.js";
import type { QuantisedMatrix, WeightBits } from "../kernel/quantise.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { ParameterSpan } from "../program/kinds.js";

export interface QuantisedShape {
  readonly dims: readonly number[];
  readonly bits: WeightBits;
}

/** What operators read of a rank's weights while they are bound. */
export interface OperatorWeights {
  dims(name: string): readonly number[];
  /** A tensor that is read by rows for as long as the rank lives. */
  weight(name: string): Float32Array;
  /** Neighbouring tensors as one, for `takeBack` to end; of weights in buckets a view that stays. */
  span(names: ParameterSpan): Float32Array;
  /** As `span`, as one matrix in few bits. */
  quantised(names: ParameterSpan, shape: QuantisedShape): QuantisedMatrix;
  /** What was lent since the last time is not read any more. */
  takeBack(): void;
  /** Kernels with their weights, by what they are: weights that never change are compiled in once. Undefined where they may. */
  readonly compiled?: Map<string, Executable>;
  /** Parameters without gradient (selection biases). */
  readonly buffers: ReadonlyMap<string, { readonly info: ParameterInfo; readonly data: Float32Array }>;
}
