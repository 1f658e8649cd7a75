import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Operation, type Plan, breakDisk, mendDisk } from "../../test/faults/faulty-disk.mjs";
import { EnvironmentError, InputError, InterruptedError } from "../core/errors.js";
import { toBfloat16 } from "./element-types.js";
import { type FolderTensor, type ModelFolder, shardsOf, writeModelFolder } from "./model-folder.js";
import { SafetensorsReader } from "./safetensors.js";
import { makeWorkDirectory } from "./work-directory.js";

const newDirectory = (): string => mkdtempSync(join(tmpdir(), "scmoe-folder-"));

function tensor(name: string, dims: number[], dtype: "F32" | "BF16" = "F32", odd?: number): FolderTensor {
  const data = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i) / 3);
  if (odd !== undefined) data[data.length - 1] = odd;
  return { name, dims, dtype, readInto: (out, from) => out.set(data.subarray(from, from + out.length)) };
}

function valuesOf({ dims, readInto }: FolderTensor): Float32Array {
  const out = new Float32Array(dims.reduce((a, b) => a * b, 1));
  readInto(out, 0);
  return out;
}

const TENSORS = [tensor("a", [10, 7]), tensor("b", [3]), tensor("c", [5, 100], "BF16"), tensor("d", [0, 4])];
const folder = (more: Partial<ModelFolder> = {}): ModelFolder => ({
  tensors: TENSORS,
  files: new Map([["config.json", Buffer.from("{}")]]),
  shardBytes: 1e9,
  ...more,
});

describe("a published folder", () => {
  it("is one file without an index where that is enough, each tensor in its type", async () => {
    const out = join(newDirectory(), "deep", "out");
    expect(await writeModelFolder(out, folder())).toEqual({ shards: 1, bytes: 280 + 12 + 1000 });
    expect(readdirSync(out).sort()).toEqual(["config.json", "model.safetensors"]);
    expect(readdirSync(join(out, ".."))).toEqual(["out"]);
    const reader = SafetensorsReader.open(join(out, "model.safetensors"));
    for (const one of TENSORS) {
      const wanted = valuesOf(one);
      if (one.dtype === "BF16")
        new Uint32Array(wanted.buffer).set(Uint32Array.from(toBfloat16(wanted), (bits) => bits << 16));
      expect(reader.info(one.name)).toMatchObject({ dtype: one.dtype, dims: one.dims });
      expect(reader.readF32(one.name)).toEqual(wanted);
    }
    reader.close();
  });

  it("is in shards of at most a size, in order, with an index of all", async () => {
    const out = join(newDirectory(), "out");
    expect(await writeModelFolder(out, folder({ shardBytes: 300 }))).toMatchObject({ shards: 2 });
    const { metadata, weight_map: map } = JSON.parse(
      readFileSync(join(out, "model.safetensors.index.json"), "utf8"),
    ) as { metadata: unknown; weight_map: Record<string, string> };
    const [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    expect(metadata).toEqual({ total_size: 280 + 12 + 1000 });
    expect(map).toEqual({ a: first, b: first, c: second, d: second });
    for (const [name, file] of Object.entries(map)) {
      const reader = SafetensorsReader.open(join(out, file));
      expect(reader.names).toContain(name);
      reader.close();
    }
    const sizes = (bytes: number): number[] => shardsOf(TENSORS, bytes).map((shard) => shard.length);
    expect([292, 291, 1].map(sizes)).toEqual([
      [2, 2],
      [1, 1, 2],
      [1, 1, 2],
    ]);
  });

  it("of tensors larger than what is read at a time is read by whole rows", async () => {
    const out = join(newDirectory(), "out");
    const dims = [3, 700_000];
    const asked: number[] = [];
    const large = tensor("large", dims);
    const counted = (values: Float32Array, from: number): void => {
      asked.push(from, values.length);
      large.readInto(values, from);
    };
    await writeModelFolder(out, folder({ tensors: [{ ...large, readInto: counted }] }));
    expect(asked).toEqual([0, 700_000, 700_000, 700_000, 1_400_000, 700_000]);
    const reader = SafetensorsReader.open(join(out, "model.safetensors"));
    expect(Buffer.from(reader.readF32("large").buffer).equals(Buffer.from(valuesOf(large).buffer))).toBe(
      true,
    );
    reader.close();
  });

  it("is not written where something is, nor of values that no file should have, nor when asked to stop", async () => {
    const parent = newDirectory();
    const taken = join(parent, "taken");
    mkdirSync(taken);
    await writeModelFolder(taken, folder());
    await expect(writeModelFolder(taken, folder())).rejects.toThrow(
      /taken is not empty \(it has config.json\)/,
    );
    await expect(writeModelFolder(join(taken, "config.json"), folder())).rejects.toThrow(/is a file/);
    const out = join(parent, "out");
    const refused = (odd: number, dtype: "F32" | "BF16") =>
      expect(writeModelFolder(out, folder({ tensors: [TENSORS[0], tensor("x", [4], dtype, odd)] }))).rejects;
    await refused(NaN, "F32").toThrow(/"x" has the value NaN at element 3/);
    await refused(3.4e38, "BF16").toThrow(
      /"x" has the value 3.3999\d+e\+38 at element 3, which no bf16 is near/,
    );
    await refused(Infinity, "BF16").toBeInstanceOf(InputError);
    const stop = new AbortController();
    const onProgress = (): void => stop.abort();
    await expect(writeModelFolder(out, folder({ signal: stop.signal, onProgress }))).rejects.toBeInstanceOf(
      InterruptedError,
    );
    expect(readdirSync(parent)).toEqual(["taken"]);
  });

  it("is complete or not there wherever the disk fails or is full", async () => {
    const parent = newDirectory();
    const attempt = async (number: number, plan: Omit<Plan, "root">) => {
      const root = join(parent, String(number));
      mkdirSync(root);
      let error: unknown;
      breakDisk({ root, ...plan });
      await writeModelFolder(join(root, "out"), folder({ shardBytes: 300 })).catch((thrown: unknown) => {
        error = thrown;
      });
      const operations: Operation[] = mendDisk();
      return { error, operations, root };
    };
    const { operations, error, root: whole } = await attempt(0, { at: 0, mode: "EIO" });
    expect(error).toBeUndefined();
    expect(operations.length).toBeGreaterThan(25);
    let number = 1;
    for (const [i, { modes, name }] of operations.entries())
      for (const mode of modes.filter((one) => !one.startsWith("kill"))) {
        const { error, root } = await attempt(number++, { at: i + 1, mode });
        const said = `${name} ${mode}`;
        const isThere = existsSync(join(root, "out"));
        // After the last rename the folder is there whole, and what was not sure is said.
        if (isThere)
          for (const file of readdirSync(join(whole, "out")))
            expect(statSync(join(root, "out", file)).size, said).toBe(
              statSync(join(whole, "out", file)).size,
            );
        if (error === undefined) expect(isThere, said).toBe(true);
        else {
          expect(
            [EnvironmentError, InputError].some((kind) => error instanceof kind),
            said,
          ).toBe(true);
          expect((error as Error).message, said).toContain(root);
        }
        expect(
          readdirSync(root).filter((file) => file !== "out" && !file.includes(".tmp-")),
          said,
        ).toEqual([]);
      }
  });

  it("takes away what an earlier attempt left that was killed", async () => {
    const parent = newDirectory();
    const out = join(parent, "out");
    const mine = makeWorkDirectory(out);
    const killed = mine.replace(`_${process.pid}_`, `_${spawnSync("true").pid}_`);
    mkdirSync(killed);
    writeFileSync(join(killed, "model.safetensors"), "");
    await writeModelFolder(out, folder());
    expect(readdirSync(parent).sort()).toEqual(["out", basename(mine)]);
  });
});
