/** What an adapter of a published family of models consists of. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";
import type { TensorNames } from "./tensor-names.js";

export interface Family {
  /** As `model_type` says it, but for those that have no type of their own. */
  readonly name: string;
  /** For people. */
  readonly title: string;
  /** Classes that `architectures` may name; the first is written. */
  readonly architectures: readonly string[];
  /** Other spellings of those. */
  readonly spelling?: RegExp;
  /** A tensor that a folder of this family does not have: who has it says that it is of this one, wrongly. */
  readonly betrayal?: { readonly tensor: string; readonly family: string };
  /** What `model_type` says; a family that says another's is known by `architectures` alone. */
  readonly modelType: string;
  readonly hasOwnType?: boolean;
  /**
   * The model that a config.json describes, in our words.
   * @throws InputError naming a key, the value found and the value wanted
   */
  readonly read: (keys: ConfigKeys) => ModelInput;
  /** Of that model config.json again, but for what all families write alike. */
  readonly write: (config: ModelConfig) => Record<string, unknown>;
  readonly tensors: TensorNames;
  /** Gates stay f32 in a file of bf16. */
  readonly hasF32Gates?: boolean;
}
