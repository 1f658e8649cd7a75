import { cpSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { newRun, writeCheckpoint as write } from "../../test/checkpoints.js";
import { findCheckpoint, listCheckpoints } from "./checkpoint-names.js";
import { CheckpointReader } from "./checkpoint-reader.js";
import { setAsideLater } from "./checkpoint-writer.js";

describe("the newest checkpoint", () => {
  const run = newRun();
  const directory = write(run, 3);

  it("is found whatever the pointer says: it is for people, and a crash may have left it behind", () => {
    const parent = join(run, "checkpoints");
    cpSync(directory, join(parent, "step-00000001"), { recursive: true });
    for (const pointer of [undefined, "step-00000001\n", "step-00000099\n", "\n"]) {
      if (pointer === undefined) rmSync(join(parent, "latest"));
      else writeFileSync(join(parent, "latest"), pointer);
      expect(findCheckpoint(run)).toBe(directory);
    }
    rmSync(join(parent, "step-00000001"), { recursive: true });
  });

  it("is one of the most steps, beyond eight digits too; files and other names are none", () => {
    const long = newRun();
    const parent = join(long, "checkpoints");
    for (const step of [99_999_999, 100_000_000, 9])
      mkdirSync(join(parent, `step-${step}`), { recursive: true });
    writeFileSync(join(parent, "step-200000000"), "");
    for (const name of ["step-300000000.tmp", "step-x", "abandoned-1/step-400000000"])
      mkdirSync(join(parent, name), { recursive: true });
    expect(listCheckpoints(parent)).toEqual(["step-9", "step-99999999", "step-100000000"]);
    expect(findCheckpoint(long)).toBe(join(parent, "step-100000000"));
    // Sorted as text, the hundred millionth step would be the oldest, and go.
    write(long, 100_000_001, { keep: 2 });
    expect(listCheckpoints(parent)).toEqual(["step-100000000", "step-100000001"]);
  });

  it("keeps the newest; what a run went back from is set aside, not deleted", () => {
    const kept = newRun();
    const parent = join(kept, "checkpoints");
    for (const step of [3, 6, 9]) write(kept, step, { keep: 2 });
    expect(readdirSync(parent)).toEqual(["latest", "step-00000006", "step-00000009"]);
    expect(setAsideLater(parent, 9)).toEqual([]);
    expect(setAsideLater(parent, 6)).toEqual([join(parent, "abandoned-1", "step-00000009")]);
    expect(findCheckpoint(kept)).toBe(join(parent, "step-00000006"));
    expect(readFileSync(join(parent, "latest"), "utf8")).toBe("step-00000006\n");
    write(kept, 7, { keep: 2 });
    write(kept, 8, { keep: 2 });
    expect(listCheckpoints(parent)).toEqual(["step-00000007", "step-00000008"]);
    new CheckpointReader(join(parent, "abandoned-1", "step-00000009")).close();
    // Whoever writes an earlier one without a word of that.
    write(kept, 7, { keep: 1 });
    expect(readdirSync(parent).sort()).toEqual(["abandoned-1", "abandoned-2", "latest", "step-00000007"]);
    expect(readdirSync(join(parent, "abandoned-2"))).toEqual(["step-00000007", "step-00000008"]);
  });

  it("is the newest until the last later one is set aside, and what is left goes with the next call", () => {
    const left = newRun();
    const parent = join(left, "checkpoints");
    for (const step of [3, 6, 9]) write(left, step);
    // As if killed between the two.
    mkdirSync(join(parent, "abandoned-1"));
    renameSync(join(parent, "step-00000006"), join(parent, "abandoned-1", "step-00000006"));
    expect(findCheckpoint(left)).toContain("step-00000009");
    expect(setAsideLater(parent, 3)).toEqual([join(parent, "abandoned-2", "step-00000009")]);
    expect(findCheckpoint(left)).toContain("step-00000003");
  });
});
