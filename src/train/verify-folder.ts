/** `scmoe verify`: what a folder holds decides what is compared. */
import { join } from "node:path";
import { InputError } from "../core/errors.js";
import type { Engine } from "../engine/engine.js";
import { exists, isDirectory } from "../storage/files.js";
import { type FixtureReport, verifyFixture } from "./verify.js";
import { type PublishedReport, verifyPublished } from "./verify-published.js";

/** What a comparison with another implementation found. */
export type VerifyReport = FixtureReport | PublishedReport;

/** A file that tells what kind of folder it is, and who compares such a one. */
const KINDS: readonly {
  readonly file: string;
  readonly verify: (directory: string, engine: Engine) => VerifyReport;
}[] = [
  { file: "run.json", verify: verifyFixture },
  { file: "config.json", verify: verifyPublished },
];

/** @throws InputError when the folder is of no kind, or files are missing or broken, or do not fit each other */
export function verifyFolder(directory: string, engine: Engine): VerifyReport {
  const kind = KINDS.find(({ file }) => exists(join(directory, file)));
  if (kind !== undefined) return kind.verify(directory, engine);
  throw new InputError(
    isDirectory(directory)
      ? `${directory} holds nothing to compare with: wanted ${KINDS.map(({ file }) => file).join(" or ")}`
      : `${directory} is no directory`,
  );
}
