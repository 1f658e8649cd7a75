import { cpSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { newRun, refusal, tensor, writeCheckpoint as write } from "../../test/checkpoints.js";
import { CheckpointReader } from "./checkpoint-reader.js";
import { beginCheckpoint, commitCheckpoint, writeShard } from "./checkpoint-writer.js";
import type { TensorToStore } from "./safetensors.js";

it.each([1, 2])("written by %i rank(s): damage in a header gets the same advice as elsewhere", (ranks) => {
  const damaged = newRun();
  const [first, second] = [3, 6].map((step) => write(damaged, step, { ranks }));
  const file = ranks === 1 ? "model.safetensors" : "model-00002-of-00002.safetensors";
  const flip = (folder: string): void => {
    const bytes = readFileSync(join(folder, file));
    bytes[20] ^= 1;
    writeFileSync(join(folder, file), bytes);
  };
  flip(second);
  expect(refusal(second)).toMatch(
    /not a valid safetensors file: .*; an earlier checkpoint is intact: .*step-00000003 \(scmoe train --resume takes it\)$/,
  );
  flip(first);
  expect(refusal(second)).toMatch(/; no earlier checkpoint is intact$/);
  // It says nothing of what never was.
  expect(refusal(first)).toMatch(/; there is no earlier checkpoint$/);
});
describe("a folder of Hugging Face's", () => {
  const folder = newRun();
  cpSync(write(newRun(), 3), folder, { recursive: true });
  for (const file of ["digests.json", "trainer_state.json", "optimizer.safetensors.index.json"])
    rmSync(join(folder, file));
  const index = join(folder, "model.safetensors.index.json");
  const good = readFileSync(index, "utf8");
  const name = (file: unknown): void =>
    writeFileSync(
      index,
      JSON.stringify({ weight_map: { "model.0": "model-00001-of-00002.safetensors", "model.1": file } }),
    );

  it.each(["../x", "/etc/passwd", "a/b", "a\\b", "..\\x", "..", ".", "", "a\0b", 7, null, ["x"]])(
    "whose index names %j is refused",
    (file) => {
      name(file);
      expect(refusal(folder)).toBe(`${index} names no file for "model.1": ${JSON.stringify(file)}`);
    },
  );

  it("whose index names a file or a tensor that is not there is refused in one line, when it is opened", () => {
    name("model-00003-of-00002.safetensors");
    expect(refusal(folder)).toBe(
      `${index} names the file model-00003-of-00002.safetensors for "model.1", which is missing`,
    );
    name("model-00001-of-00002.safetensors");
    expect(refusal(folder)).toBe(
      `${index} names the file model-00001-of-00002.safetensors for "model.1", which is not in it`,
    );
    writeFileSync(index, '{"weight_map":{"__proto__":"model-00001-of-00002.safetensors"}}');
    expect(refusal(folder)).toContain('for "__proto__", which is not in it');
  });

  it("may hold symbolic links", () => {
    writeFileSync(index, good);
    const file = join(folder, "model-00002-of-00002.safetensors");
    const elsewhere = join(newRun(), "blob");
    renameSync(file, elsewhere);
    symlinkSync(elsewhere, file);
    const reader = new CheckpointReader(folder);
    const out = new Float32Array(6);
    reader.readInto("model", "model.1", out);
    expect(out[5]).toBe(4.625);
    reader.close();
  });

  it.each(["../x", "/etc/passwd", "a/b", "a\\b", "..", ""])("with digests of %j is refused", (file) => {
    const digests = join(folder, "digests.json");
    writeFileSync(digests, JSON.stringify({ [file]: { bytes: 1, sha256: "" } }));
    expect(refusal(folder)).toBe(`${digests} is damaged: "${file}" is no file's name`);
    rmSync(digests);
  });
});

it("pieces of a tensor must cover it once, from end to end", () => {
  const run = newRun();
  const directory = join(run, "checkpoints", "step-00000001");
  const piece = (range: string, length: number): TensorToStore => tensor(`x@${range}`, [length], 0);
  const read = (...tensors: TensorToStore[]): number[] => {
    beginCheckpoint(directory);
    const shards = (["model", "optimizer"] as const).map((kind) =>
      writeShard(directory, { kind, rank: 0, ranks: 1, tensors }),
    );
    commitCheckpoint(directory, shards, { config: {}, trainerState: {} }, { keep: 1 });
    const reader = new CheckpointReader(directory);
    try {
      const out = new Float32Array(4);
      reader.readPiecesInto("optimizer", "x", out, 1);
      return [...out];
    } finally {
      reader.close();
    }
  };
  expect(read(piece("3-6", 3), piece("0-3", 3))).toEqual([0.125, 0.25, 0, 0.125]);
  for (const pieces of [
    // Half of it twice is not the whole.
    [piece("0-3", 3), piece("1-3", 2)],
    [piece("0-2", 2), piece("3-6", 3)],
    [piece("0-all", 6)],
  ])
    expect(() => read(...pieces)).toThrow(/x is incomplete/);
  expect(() => read(piece("0-3", 2), piece("3-6", 3))).toThrow(/"x@0-3" has 2 elements, wanted 3/);
});
