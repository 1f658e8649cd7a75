/** A model opened to write with. */
import { type Generator, openGenerator as openOn } from "../infer/generate.js";
import { type GeneratorOptions, engineOptions } from "./engine-options.js";

/**
 * Opens a model to write with; closed when it is not needed any more.
 * @returns undefined in processes of an MPI launcher other than rank 0's, once all has ended
 * @throws InputError when the model is missing, damaged or not supported, or there is too little memory
 */
export async function openGenerator(options: GeneratorOptions): Promise<Generator | undefined> {
  return openOn(options.model, engineOptions("generate", options, "process"));
}
