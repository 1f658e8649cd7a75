import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { newRun, writeCheckpoint } from "../../test/checkpoints.js";
import { EnvironmentError } from "../core/errors.js";
import { removeHalfWritten, writeOfRun } from "./run-directory.js";

it("what a crash left half-written goes, in the run's directory and beside its checkpoints", () => {
  const run = mkdtempSync(join(tmpdir(), "scmoe-run-"));
  mkdirSync(join(run, "checkpoints", "step-00000004.tmp"), { recursive: true });
  for (const file of ["metrics.jsonl", "metrics.jsonl.tmp", "timeline.json.tmp", "checkpoints/latest.tmp"])
    writeFileSync(join(run, file), "half");
  removeHalfWritten(run);
  expect(readdirSync(run)).toEqual(["checkpoints", "metrics.jsonl"]);
  expect(readdirSync(join(run, "checkpoints"))).toEqual([]);
});

it("a message about what cannot be written says from where the run goes on, if from anywhere", () => {
  const run = newRun();
  const write = (): void =>
    writeOfRun(run, () => {
      throw new EnvironmentError("Cannot write x: the disk is full; free some space");
    });
  expect(write).toThrow(/free some space; nothing had been saved yet$/);
  writeCheckpoint(run, 12);
  expect(write).toThrow(`free some space; scmoe train --resume ${run} goes on after step 12`);
});
