/** `scmoe verify`: what a folder holds decides what is compared. */
import { join } from "node:path";
import { InputError } from "../core/errors.js";
import type { Engine } from "../engine/engine.js";
import { exists, isDirectory } from "../storage/files.js";
import { TOKENIZER_CASES, type TokenizerReport, verifyTokenizer } from "../data/verify-tokenizer.js";
import { type FixtureReport, verifyFixture } from "./verify.js";
import { type PublishedReport, verifyPublished } from "./verify-published.js";

/** What a comparison with another implementation found. */
export type VerifyReport = FixtureReport | PublishedReport | TokenizerReport;

/** Files that tell what kind of folder it is, and who compares such a one: the first that fits. */
const KINDS: readonly {
  readonly files: readonly string[];
  readonly verify: (directory: string, engine: Engine) => VerifyReport;
}[] = [
  { files: ["run.json"], verify: verifyFixture },
  // With the cases of its tokenizer, where it has some.
  { files: ["config.json", "case.safetensors"], verify: verifyPublished },
  { files: TOKENIZER_CASES, verify: verifyTokenizer },
];

/** @throws InputError when the folder is of no kind, or files are missing or broken, or do not fit each other */
export function verifyFolder(directory: string, engine: Engine): VerifyReport {
  const kind = KINDS.find(({ files }) => files.every((file) => exists(join(directory, file))));
  if (kind !== undefined) return kind.verify(directory, engine);
  throw new InputError(
    isDirectory(directory)
      ? `${directory} holds nothing to compare with: wanted ${KINDS.map(({ files }) => files.join(" and ")).join(", or ")}`
      : `${directory} is no directory`,
  );
}
