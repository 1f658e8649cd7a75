/** Models go out as they came in, bit for bit, and nothing half-written stays. */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exportModel } from "../src/api/export.js";
import { bpeToJson } from "../src/data/tokenizer.js";
import { trainBpe } from "../src/data/bpe.js";
import { modelToJson, resolveModel } from "../src/model/config.js";
import { listParameters } from "../src/model/parameters.js";
import { openModel } from "../src/run/open-model.js";
import { toBfloat16 } from "../src/storage/element-types.js";
import { beginCheckpoint, commitCheckpoint, writeShard } from "../src/storage/checkpoint-writer.js";
import { SafetensorsReader, safetensorsHeader } from "../src/storage/safetensors.js";
import { temporaryDirectory } from "./helpers.js";
import { PUBLISHED, writePublished } from "./published.js";

interface Stored {
  readonly dtype: string;
  readonly dims: readonly number[];
  readonly values: Float32Array;
}

/** All tensors of a folder by the names that its files have for them. */
function filesOf(directory: string): Map<string, Stored> {
  const all = new Map<string, Stored>();
  for (const file of readdirSync(directory).filter((name) => name.endsWith(".safetensors"))) {
    const reader = SafetensorsReader.open(join(directory, file));
    for (const name of reader.names) all.set(name, { ...reader.info(name), values: reader.readF32(name) });
    reader.close();
  }
  return all;
}

const bits = (values: Float32Array): Buffer =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength);
const json = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;

function configOf(directory: string): unknown {
  const model = openModel(directory);
  model.close();
  return modelToJson(model.config);
}

const FAMILIES = Object.keys(PUBLISHED);

describe.each(FAMILIES)("%s", (family) => {
  const directory = temporaryDirectory();
  const [source, f32, bf16, again] = ["source", "f32", "bf16", "again"].map((name) => join(directory, name));

  it("comes back from an export with the same bits under the same names, and the same config", async () => {
    await writePublished(family, source);
    const lines: string[] = [];
    const onEvent = ({ kind, line = "" }: { kind: string; line?: string }): void =>
      void (kind === "message" && lines.push(line));
    const { architecture, files } = await exportModel({ model: source, out: f32, shardGb: 1e-5, onEvent });
    expect(architecture).toBe((PUBLISHED[family].architectures as string[])[0]);
    expect(files).toBeGreaterThan(2);
    expect(lines).toEqual(
      family === "instella_moe" ? [expect.stringContaining("would read it as deepseek_v3")] : [],
    );
    const [before, after] = [filesOf(source), filesOf(f32)];
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    for (const [name, { dims, values }] of before) {
      expect(after.get(name)).toMatchObject({ dtype: "F32", dims });
      expect(bits(after.get(name)?.values ?? values.subarray(1)).equals(bits(values)), name).toBe(true);
    }
    expect(configOf(f32)).toEqual(configOf(source));
    expect(json(join(f32, "config.json"))).toMatchObject({
      dtype: "float32",
      bos_token_id: 1,
      eos_token_id: 2,
    });
    expect(json(join(f32, "generation_config.json"))).toMatchObject({ bos_token_id: 1, eos_token_id: 2 });
  });

  it("in bf16 is rounded once; what chooses experts stays f32", async () => {
    await exportModel({ model: source, out: bf16, dtype: "bf16" });
    await exportModel({ model: bf16, out: again, dtype: "bf16" });
    const [before, rounded, twice] = [filesOf(source), filesOf(bf16), filesOf(again)];
    const kept: string[] = [];
    for (const [name, { dtype, values }] of rounded) {
      const exact = before.get(name)?.values ?? values;
      if (dtype === "F32") {
        kept.push(name);
        expect(bits(values).equals(bits(exact)), name).toBe(true);
      } else {
        const wanted = Uint32Array.from(toBfloat16(exact), (half) => half << 16);
        expect(bits(values).equals(Buffer.from(wanted.buffer)), name).toBe(true);
      }
      expect(bits(twice.get(name)?.values ?? exact.subarray(1)).equals(bits(values)), name).toBe(true);
    }
    const gates = ["deepseek_v2", "deepseek_v3", "instella_moe"].includes(family);
    const stay = [...before.keys()].filter(
      (name) => name.endsWith("e_score_correction_bias") || (gates && name.endsWith(".gate.weight")),
    );
    expect(kept.sort()).toEqual(stay.sort());
    expect(json(join(bf16, "config.json"))).toMatchObject({ dtype: "bfloat16" });
  });
});

it("weights of one byte come out multiplied by the scales of their blocks", async () => {
  const directory = temporaryDirectory();
  const [source, out] = [join(directory, "source"), join(directory, "out")];
  await writePublished("llama", join(directory, "f32"));
  const name = "model.layers.1.mlp.down_proj.weight";
  const [rows, columns, block] = [16, 24, 10];
  const stored = Uint8Array.from({ length: rows * columns }, (_, i) => (i * 37) % 127);
  const scales = Float32Array.of(1, 0.5, 3, 0.1, 7, 0.25);
  const bytes = new Map<string, [dtype: string, dims: readonly number[], bytes: Uint8Array]>();
  for (const [other, { dims, values }] of filesOf(join(directory, "f32")))
    bytes.set(other, ["F32", dims, bits(values)]);
  bytes.set(name, ["F8_E4M3", [rows, columns], stored]);
  bytes.set(`${name}_scale_inv`, ["F32", [2, 3], bits(scales)]);
  mkdirSync(source);
  const header = [...bytes].map(([of, [dtype, dims, { length }]]) => ({
    name: of,
    dtype,
    dims,
    bytes: length,
  }));
  writeFileSync(
    join(source, "model.safetensors"),
    Buffer.concat([safetensorsHeader(header), ...[...bytes.values()].map(([, , data]) => data)]),
  );
  const quantization_config = { quant_method: "fp8", weight_block_size: [block, block] };
  writeFileSync(join(source, "config.json"), JSON.stringify({ ...PUBLISHED.llama, quantization_config }));
  await exportModel({ model: source, out });
  const found = filesOf(out).get(name)?.values;
  const reader = SafetensorsReader.open(join(source, "model.safetensors"));
  const wanted = reader.readF32(name).map((value, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return value * scales[Math.floor(row / block) * 3 + Math.floor(column / block)];
  });
  reader.close();
  expect(found).toEqual(wanted);
  expect(json(join(out, "config.json"))).not.toHaveProperty("quantization_config");
});

describe("a run", () => {
  const directory = temporaryDirectory();
  const run = join(directory, "run");
  const write = (arch: string, step: number, more = {}): void => {
    const config = resolveModel({
      arch,
      style: "llama",
      vocab_size: 300,
      hidden_size: 16,
      intermediate_size: 24,
      num_attention_heads: 2,
      num_hidden_layers: 2,
      num_experts: 2,
      max_position_embeddings: 32,
      ...more,
    });
    const tensors = listParameters(config).map(({ name, dims }) => ({
      name,
      dtype: "F32" as const,
      dims,
      data: new Float32Array(dims.reduce((a, b) => a * b)).fill(step),
    }));
    const checkpoint = join(run, "checkpoints", `step-${String(step).padStart(8, "0")}`);
    beginCheckpoint(checkpoint);
    const shard = writeShard(checkpoint, { kind: "model", rank: 0, ranks: 1, tensors });
    const bpe = JSON.stringify(bpeToJson(trainBpe(["our nation our people our nation"], 258)));
    const tokenizer = new Map([["tokenizer.json", bpe]]);
    commitCheckpoint(
      checkpoint,
      [shard],
      { config: modelToJson(config), trainerState: { step, seed: 1 }, tokenizer },
      { keep: 9 },
    );
  };
  mkdirSync(join(run, "checkpoints"), { recursive: true });

  it("is exported from its newest checkpoint or a chosen one, with its tokenizer", async () => {
    write("top2", 3, { moe_layer_interval: 1 });
    write("top2", 6, { moe_layer_interval: 1 });
    const valueOf = (out: string): number | undefined =>
      filesOf(out).get("model.layers.1.block_sparse_moe.experts.1.w2.weight")?.values[5];
    for (const [name, checkpoint, value] of [
      ["newest", undefined, 6],
      ["step", 3, 3],
      ["named", "step-00000003", 3],
      ["path", join(run, "checkpoints/step-00000003"), 3],
    ] as const) {
      const out = join(directory, name);
      const { architecture } = await exportModel({ model: run, out, checkpoint });
      expect(architecture).toBe("MixtralForCausalLM");
      expect(valueOf(out)).toBe(value);
    }
    const out = join(directory, "newest");
    expect(readdirSync(out).sort()).toEqual([
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(json(join(out, "generation_config.json"))).toEqual({ eos_token_id: 257 });
    expect(json(join(out, "config.json"))).toMatchObject({ bos_token_id: null, eos_token_id: 257 });
    expect(json(join(out, "tokenizer_config.json"))).toMatchObject({
      eos_token: "<|endoftext|>",
      model_max_length: 32,
    });
    await expect(exportModel({ model: run, out: join(directory, "none"), checkpoint: 5 })).rejects.toThrow(
      /has no checkpoint 5: .*step-00000005 is missing/,
    );
    await expect(exportModel({ model: run, out })).rejects.toThrow(/is not empty/);
  });

  it("that transformers has no class for keeps our words, and comes back by them", async () => {
    write("scmoe-pos2", 9);
    const out = join(directory, "own");
    const lines: string[] = [];
    const onEvent = ({ line = "" }: { line?: string }): void => void lines.push(line);
    const { architecture } = await exportModel({ model: run, out, onEvent });
    expect(architecture).toBeNull();
    expect(lines).toEqual([
      "transformers has no class for this model (arch is scmoe-pos2): names and config.json are scmoe's own",
    ]);
    expect(configOf(out)).toEqual(configOf(run));
    const model = openModel(out);
    const values = new Float32Array(4);
    model.source.readInto("model.layers.1.mlp.gate.weight", values);
    model.close();
    expect([...values]).toEqual([9, 9, 9, 9]);
  });

  it("that started from a published folder takes along what that says of tokens", async () => {
    const start = join(directory, "start");
    mkdirSync(start);
    const found = {
      "chat_template.jinja": "{{ messages }}",
      "generation_config.json": '{"eos_token_id":[5,6]}',
    };
    for (const [name, text] of Object.entries({
      ...found,
      "config.json": '{"bos_token_id":7,"eos_token_id":5}',
    }))
      writeFileSync(join(start, name), text);
    const record = join(run, "run.json");
    writeFileSync(record, JSON.stringify({ ranks: 1, config: {}, from: start }));
    const out = join(directory, "tuned");
    await exportModel({ model: run, out, checkpoint: 3 });
    writeFileSync(join(start, "config.json"), '{"eos_token_id":5}');
    await exportModel({ model: run, out: join(directory, "default"), checkpoint: 3 });
    expect(json(join(directory, "default", "config.json"))).not.toHaveProperty("bos_token_id");
    rmSync(record);
    expect(json(join(out, "config.json"))).toMatchObject({ bos_token_id: 7, eos_token_id: 5 });
    for (const [name, text] of Object.entries(found))
      expect(readFileSync(join(out, name), "utf8")).toBe(text);
    expect(readdirSync(out)).toContain("tokenizer.json");
  });

  it("with weights that are not finite, or damaged, is refused and leaves nothing", async () => {
    const file = join(run, "checkpoints/step-00000009/model.safetensors");
    const good = readFileSync(file);
    const bad = Buffer.from(good);
    bad[bad.length - 1] ^= 1;
    writeFileSync(file, bad);
    const before = readdirSync(directory);
    await expect(exportModel({ model: run, out: join(directory, "bad") })).rejects.toThrow(/SHA-256/);
    writeFileSync(file, good);
    expect(readdirSync(directory)).toEqual(before);
  });
});
