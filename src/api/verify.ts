import { createOrtEngine } from "../engine/ort-engine.js";
import { type TokenizerReport, holdsTokenizerCases, verifyTokenizer } from "../data/verify-tokenizer.js";
import { type VerifyReport, verifyFixture } from "../train/verify.js";

/** What to compare with. */
export interface VerifyOptions {
  /** With run.json, initial, tokens, gradients0 and final .safetensors of another implementation; or tokenizer.json and cases.json. */
  readonly directory: string;
}

/**
 * Repeats another implementation's training run and compares losses, gradients and weights with its own; of a tokenizer, ids
 * and decoded texts.
 * @throws InputError when files are missing or broken, or do not fit each other
 */
export function verify({ directory }: VerifyOptions): VerifyReport | TokenizerReport {
  if (holdsTokenizerCases(directory)) return verifyTokenizer(directory);
  const engine = createOrtEngine();
  try {
    return verifyFixture(directory, engine);
  } finally {
    engine.dispose();
  }
}
