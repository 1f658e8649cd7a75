import type { CheckpointReader } from "./checkpoint-reader.js";

/** Where the weights of a model come from: tensors under the model's own names, whatever files call them and have them in. */
export interface WeightSource {
  /** The folder, for messages. */
  readonly where: string;
  /** What it means that a weight is not finite, and what to do. */
  readonly whenNotFinite: string;
  /** Tensors that are there. */
  readonly names: readonly string[];
  /** @throws InputError when the tensor is missing */
  dims(name: string): readonly number[];
  /**
   * Elements [from, from + out.length) of a tensor, as f32.
   * @throws InputError when the tensor is missing, or of a type or shape that does not fit
   */
  readInto(name: string, out: Float32Array, from?: number): void;
  close(): void;
}

/** The weights of one of our checkpoints. Closing closes the reader. */
export function checkpointWeights(reader: CheckpointReader): WeightSource {
  return {
    where: reader.directory,
    whenNotFinite: "the run that wrote it had diverged: take an earlier checkpoint",
    names: reader.names("model"),
    dims: (name) => reader.dims("model", name),
    readInto: (name, out, from) => reader.readInto("model", name, out, from),
    close: () => reader.close(),
  };
}
