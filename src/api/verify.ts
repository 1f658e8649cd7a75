import { createOrtEngine } from "../engine/ort-engine.js";
import { type VerifyReport, verifyFolder } from "../train/verify-folder.js";

/** What to compare with. */
export interface VerifyOptions {
  /**
   * With what another implementation computed: run.json, initial, tokens, gradients0 and final .safetensors; a published model
   * with case and, if need be, gradients .safetensors; or tokenizer.json and cases.json.
   */
  readonly directory: string;
}

/**
 * Repeats what another implementation computed and compares: a training run's losses, gradients and weights, a published
 * model's logits, loss, likeliest continuation and gradients, or a tokenizer's ids and texts.
 * @throws InputError when files are missing or broken, or do not fit each other
 */
export function verify({ directory }: VerifyOptions): VerifyReport {
  const engine = createOrtEngine();
  try {
    return verifyFolder(directory, engine);
  } finally {
    engine.dispose();
  }
}
