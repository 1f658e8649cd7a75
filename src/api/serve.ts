/** A model on a port, without a server's modules until there is one. */
import type { ServeOptions, Serving } from "./serve-options.js";

/**
 * Opens a model and answers requests until it is drained. The model runs on threads of its own (`ranks`, default 1), never on the one that
 * answers.
 * @returns undefined in processes of an MPI launcher other than rank 0's, once all has ended
 * @throws InputError when the model, an option or the address is none; EnvironmentError when the address cannot be had
 */
export async function serve(options: ServeOptions): Promise<Serving | undefined> {
  const { startServing } = await import("./serving.js");
  return startServing(options);
}
