/**
 * A tensor is a typed-array view plus dimensions, row-major. Views made by an `Arena` share memory with the
 * engine, the WebAssembly routines and the communicator; nothing is copied between them.
 */
export type DType = "f32" | "i32";
export type Data = Float32Array | Int32Array;

export interface Tensor<D extends Data = Data> {
  readonly data: D;
  readonly dims: readonly number[];
}

export function numElements(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

export function tensor<D extends Data>(data: D, dims: readonly number[]): Tensor<D> {
  return { data, dims };
}
