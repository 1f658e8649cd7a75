import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Operation, type Plan, breakDisk, mendDisk } from "../../test/faults/faulty-disk.mjs";
import { newRun, writeCheckpoint as write } from "../../test/checkpoints.js";
import { EnvironmentError, InputError } from "../core/errors.js";
import { findCheckpoint, listCheckpoints } from "./checkpoint-names.js";
import { CheckpointReader } from "./checkpoint-reader.js";
import { removeUnfinished } from "./checkpoint-writer.js";

/** What any reader of the format does, written from its specification alone. */
function parseIndependently(path: string): Map<string, { shape: number[]; values: number[] }> {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  expect(length % 8).toBe(0);
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + length)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const found = new Map<string, { shape: number[]; values: number[] }>();
  let end = 0;
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    expect(entry.dtype).toBe("F32");
    expect(entry.data_offsets[0]).toBe(end);
    end = entry.data_offsets[1];
    const values = [];
    for (let at = entry.data_offsets[0]; at < end; at += 4) values.push(bytes.readFloatLE(8 + length + at));
    found.set(name, { shape: entry.shape, values });
  }
  expect(8 + length + end).toBe(bytes.length);
  return found;
}

describe("a checkpoint directory", () => {
  const run = newRun();
  const directory = write(run, 3);

  it("holds safetensors that an independent reader reads, and an index of them", () => {
    const index = JSON.parse(readFileSync(join(directory, "model.safetensors.index.json"), "utf8")) as {
      metadata: { total_size: number };
      weight_map: Record<string, string>;
    };
    let bytes = 0;
    for (const [name, file] of Object.entries(index.weight_map)) {
      expect(file).toMatch(/^model-0000[12]-of-00002\.safetensors$/);
      const entry = parseIndependently(join(directory, file)).get(name);
      expect(entry?.values).toHaveLength(entry?.shape.reduce((a, b) => a * b, 1) ?? -1);
      bytes += (entry?.values.length ?? 0) * 4;
    }
    expect(bytes).toBe(index.metadata.total_size);
    expect(
      parseIndependently(join(directory, "model-00002-of-00002.safetensors")).get("model.1")?.values,
    ).toEqual([4, 4.125, 4.25, 4.375, 4.5, 4.625]);
  });

  it("reads back", () => {
    const reader = new CheckpointReader(findCheckpoint(run));
    reader.verify();
    const out = new Float32Array(3);
    reader.readInto("model", "model.0", out, 2);
    expect([...out]).toEqual([3.25, 3.375, 3.5]);
    reader.close();
  });

  it("refuses any file that is missing, shorter, longer or has one bit flipped, and names an earlier checkpoint", () => {
    const damagedRun = newRun();
    cpSync(run, damagedRun, { recursive: true });
    const newest = write(damagedRun, 6);
    const load = (): void => {
      const reader = new CheckpointReader(findCheckpoint(damagedRun));
      try {
        reader.verify();
      } finally {
        reader.close();
      }
    };
    load();
    const files = readdirSync(newest);
    expect(files).toHaveLength(10);
    fc.assert(
      fc.property(
        fc.constantFrom(...files),
        fc.oneof(
          fc.record({ at: fc.nat(), bit: fc.nat(7) }),
          fc.constantFrom("shorter", "longer", "missing"),
        ),
        (file, damage) => {
          const path = join(newest, file);
          const good = readFileSync(path);
          const bad = Buffer.from(good);
          if (damage === "missing") rmSync(path);
          else if (damage === "shorter") writeFileSync(path, good.subarray(0, good.length - 1));
          else if (damage === "longer") writeFileSync(path, Buffer.concat([good, Buffer.from(" ")]));
          else {
            bad[damage.at % bad.length] ^= 1 << damage.bit;
            writeFileSync(path, bad);
          }
          const isBlank =
            file === "digests.json" &&
            JSON.stringify(parseOr(path)) === JSON.stringify(JSON.parse(String(good)));
          let error: unknown;
          try {
            load();
          } catch (thrown) {
            error = thrown;
          }
          writeFileSync(path, good);
          // White space in digests.json means nothing.
          if (isBlank) return;
          expect(error).toBeInstanceOf(InputError);
          expect((error as Error).message).toContain("step-00000006");
          expect((error as Error).message.split("\n")).toHaveLength(1);
          expect((error as Error).message).toContain("step-00000003 (scmoe train --resume takes it)");
        },
      ),
      { numRuns: 150 },
    );
  });

  it("is refused where there is none", () => {
    expect(() => findCheckpoint("/nowhere")).toThrow(/holds no checkpoint/);
  });

  it("is complete or not there, and the previous one is intact, wherever the disk fails or is full", () => {
    const full = newRun();
    const parent = join(full, "checkpoints");
    write(full, 3);
    const template = newRun();
    cpSync(full, template, { recursive: true });
    const attempt = (plan: Omit<Plan, "root">): { error: unknown; operations: Operation[] } => {
      rmSync(full, { recursive: true });
      cpSync(template, full, { recursive: true });
      breakDisk({ root: full, ...plan });
      try {
        write(full, 6);
        return { error: undefined, operations: mendDisk() };
      } catch (error) {
        return { error, operations: mendDisk() };
      }
    };
    const { operations } = attempt({ at: 0, mode: "EIO" });
    expect(operations.length).toBeGreaterThan(60);
    for (const [i, { modes, name }] of operations.entries()) {
      // Every operation in one way here, in all by the campaign io-faults.
      const errors = modes.filter((mode) => !mode.startsWith("kill"));
      const mode = errors[i % errors.length];
      const { error } = attempt({ at: i + 1, mode });
      // A file that was only read is closed however it ends.
      if (error === undefined) expect(name).toBe("closeSync");
      else expect(error).toBeInstanceOf(EnvironmentError);
      if (mode === "ENOSPC" || mode === "short")
        expect((error as Error).message).toMatch(/the disk is full; free/);
      removeUnfinished(parent);
      const names = listCheckpoints(parent);
      expect(names[0]).toBe("step-00000003");
      for (const name of names) {
        const reader = new CheckpointReader(join(parent, name));
        reader.verify();
        reader.close();
      }
      expect(readFileSync(join(parent, "latest"), "utf8")).toBe(`${names.at(-1)}\n`);
      expect(readdirSync(parent).sort()).toEqual(["latest", ...names]);
    }
  });
});

function parseOr(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}
