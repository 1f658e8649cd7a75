/** Published folders: each family against another implementation's numbers, and foreign ways of writing the same weights. */
import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { numElements } from "../src/core/tensor.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { modelInputAt } from "../src/api/memory.js";
import { plan } from "../src/api/plan.js";
import { singleCommunicator } from "../src/comm/single.js";
import { openGenerator } from "../src/infer/generate.js";
import type { WritingOptions } from "../src/infer/writing-options.js";
import { GREEDY } from "../src/infer/sampling/sampling-parameters.js";
import { openModel } from "../src/run/open-model.js";
import { SafetensorsReader, type TensorToStore, safetensorsBytes } from "../src/storage/safetensors.js";
import { loadStart } from "../src/train/from.js";
import { openRun } from "../src/train/open-run.js";
import { createTrainee } from "../src/train/trainee.js";
import { verifyFolder } from "../src/train/verify-folder.js";
import type { PublishedReport } from "../src/train/verify-published.js";
import { scmoe, temporaryDirectory } from "./helpers.js";

const FOLDERS = new URL("fixtures/hf/", import.meta.url).pathname;
const dir = temporaryDirectory();
const engine = createOrtEngine();
afterAll(() => {
  engine.dispose();
  rmSync(dir, { recursive: true });
});

const verify = (folder: string): PublishedReport => verifyFolder(folder, engine) as PublishedReport;

it.each(readdirSync(FOLDERS))("%s gives the other implementation's numbers", (family) => {
  const report = verify(join(FOLDERS, family));
  expect(report.failures).toEqual([]);
  expect(report.notCompared).toEqual([]);
  expect(report.greedy).toEqual({ equal: 12, cached: 12, of: 12 });
  expect(report.gradients.length).toBeGreaterThan(10);
});

it("has the cases of its tokenizer compared, too", () => {
  const folder = join(dir, "with tokenizer");
  cpSync(join(FOLDERS, "llama"), folder, { recursive: true });
  for (const file of ["tokenizer.json", "cases.json"])
    cpSync(new URL(`fixtures/tokenizer/llama2/${file}`, import.meta.url).pathname, join(folder, file));
  expect(verify(folder)).toMatchObject({ passed: true, greedy: { of: 12 }, tokenizer: { passed: true } });
  const cases = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8")) as { ids: number[] }[];
  cases[0].ids.push(1);
  writeFileSync(join(folder, "cases.json"), JSON.stringify(cases));
  expect(verify(folder)).toMatchObject({ passed: false, failures: [], tokenizer: { passed: false } });
});

type Json = Record<string, unknown>;
type Weights = Map<string, TensorToStore>;

function weightsOf(folder: string): Weights {
  const file = SafetensorsReader.open(join(folder, "model.safetensors"));
  const all = file.names.map((name): [string, TensorToStore] => [
    name,
    { name, dtype: "F32", dims: file.info(name).dims, data: file.readF32(name) },
  ]);
  file.close();
  return new Map(all);
}

function write(path: string, tensors: Iterable<TensorToStore>): void {
  writeFileSync(path, Buffer.concat([...safetensorsBytes([...tensors])]));
}

let copies = 0;
/** A copy of a family's folder, without gradients, that is written another way. */
function rewritten(
  family: string,
  change: { config?: (json: Json) => void; weights?: (all: Weights) => void },
) {
  const folder = join(dir, `${family}-${copies++}`);
  cpSync(join(FOLDERS, family), folder, { recursive: true });
  rmSync(join(folder, "gradients.safetensors"));
  const path = join(folder, "config.json");
  const json = JSON.parse(readFileSync(path, "utf8")) as Json;
  change.config?.(json);
  writeFileSync(path, JSON.stringify(json));
  const all = weightsOf(folder);
  change.weights?.(all);
  write(join(folder, "model.safetensors"), all.values());
  return folder;
}

/** One tensor of experts' tensors, by the suffixes whose rows follow each other. */
function fuse(all: Weights, layer: number, fused: string, parts: readonly string[], experts: number): void {
  const name = (e: number, part: string) => `model.layers.${layer}.mlp.experts.${e}.${part}.weight`;
  const pieces = Array.from({ length: experts }, (_, e) =>
    parts.map((part) => all.get(name(e, part))),
  ).flat();
  const dims = pieces[0]?.dims ?? [];
  const data = new Float32Array(pieces.length * numElements(dims));
  pieces.forEach((piece, i) => data.set(piece?.data ?? [], i * numElements(dims)));
  for (let e = 0; e < experts; e++) for (const part of parts) all.delete(name(e, part));
  const whole = `model.layers.${layer}.mlp.experts.${fused}`;
  all.set(whole, { name: whole, dtype: "F32", dims: [experts, parts.length * dims[0], dims[1]], data });
}

describe("the same weights", () => {
  const passes = (folder: string): void => expect(verify(folder).failures).toEqual([]);

  it("fused in three dimensions", () => {
    passes(
      rewritten("qwen3-moe", {
        weights(all) {
          fuse(all, 1, "gate_up_proj", ["gate_proj", "up_proj"], 4);
          fuse(all, 1, "down_proj", ["down_proj"], 4);
        },
      }),
    );
  });

  it("in shards, with an index that lists what is not there", () => {
    const folder = rewritten("olmoe", {});
    const all = [...weightsOf(folder).values()];
    rmSync(join(folder, "model.safetensors"));
    const shards = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"];
    const map: Record<string, string> = { "model.layers.9.mlp.gate.weight": "model-3-of-2.safetensors" };
    shards.forEach((shard, i) => {
      const part = all.filter((_, at) => at % 2 === i);
      write(join(folder, shard), part);
      for (const { name } of part) map[name] = shard;
    });
    const index = join(folder, "model.safetensors.index.json");
    writeFileSync(index, JSON.stringify({ weight_map: map }));
    passes(folder);
    const lost = all[1].name;
    rmSync(join(folder, shards[1]));
    expect(() => verify(folder)).toThrow(`tensor "${lost}" is to be in ${shards[1]}, which is missing`);
    writeFileSync(index, JSON.stringify({ weight_map: { ...map, [lost]: "../model.safetensors" } }));
    expect(() => verify(folder)).toThrow(/the file of ".*" is "..\/model.safetensors"; wanted the name/);
  });

  it("with tensors that nobody needs", () => {
    passes(
      rewritten("deepseek-v3", {
        weights(all) {
          const unneeded = [
            {
              name: "model.layers.2.self_attn.o_proj.weight",
              dtype: "F32",
              dims: [2],
              data: new Float32Array(2),
            },
            { name: "model.mtp.steps", dtype: "I32", dims: [], data: new Int32Array(1) },
            { name: "model.layers.0.mask", dtype: "I32", dims: [0, 3], data: new Int32Array(0) },
          ] as const;
          for (const tensor of unneeded) all.set(tensor.name, tensor);
        },
      }),
    );
  });
});

it("a model that says it is of another family is told by its tensors", () => {
  const folder = rewritten("instella-moe", { config: (json) => delete json.architectures });
  expect(() => verify(folder)).toThrow(/self_attn.gate_proj.weight", which DeepseekV3ForCausalLM has not/);
});

describe("a head", () => {
  const tied = { config: (json: Json) => void (json.tie_word_embeddings = true) };

  it("that differs from the embedding is used, whatever is said", () => {
    const folder = rewritten("llama", tied);
    expect(verify(folder).failures).toEqual([]);
    const model = openModel(folder);
    model.close();
    expect(model.config.tie_word_embeddings).toBe(false);
  });

  it("may stand for the embedding, repeat it, or be absent", () => {
    const same = (all: Weights): void => {
      const embedding = all.get("model.embed_tokens.weight");
      if (embedding !== undefined) all.set("lm_head.weight", { ...embedding, name: "lm_head.weight" });
    };
    const repeated = rewritten("llama", { ...tied, weights: same });
    const headOnly = rewritten("llama", {
      ...tied,
      weights(all) {
        same(all);
        all.delete("model.embed_tokens.weight");
      },
    });
    const absent = rewritten("llama", { ...tied, weights: (all) => void all.delete("lm_head.weight") });
    const read = (folder: string): Float32Array => {
      const { config, source, close } = openModel(folder);
      expect(config.tie_word_embeddings).toBe(true);
      const out = new Float32Array(config.vocab_size * config.hidden_size);
      source.readInto("model.embed_tokens.weight", out);
      close();
      return out;
    };
    expect(read(headOnly)).toEqual(read(repeated));
    expect(read(absent)).toEqual(read(repeated));
  });

  it("that is not tied must be there", () => {
    const folder = rewritten("llama", { weights: (all) => void all.delete("lm_head.weight") });
    expect(() => verify(folder)).toThrow(/has no tensor "lm_head.weight"; wanted, as config.json says/);
  });
});

describe("the commands", () => {
  it("refuse in one line what is not supported", () => {
    const folder = rewritten("mixtral", { config: (json) => void (json.hidden_act = "gelu") });
    const { code, stderr } = scmoe(["verify", folder], dir);
    expect(code).toBe(2);
    expect(stderr).toBe(
      `scmoe: ${folder}/config.json: hidden_act is "gelu", which is not supported; wanted "silu"\n`,
    );
  });

  it("fail where numbers differ", () => {
    const folder = rewritten("llama", { config: (json) => void (json.rms_norm_eps = 0.1) });
    const { code, stdout } = scmoe(["verify", folder], dir);
    expect(code).toBe(1);
    expect(stdout).toMatch(/not compared: gradients.*\n(.*\n)*logits: error .*\n(.*\n)*FAILED/);
  });
});

it("token ids are written up to any of several end tokens", async () => {
  const folder = rewritten("qwen3", {});
  const options = { ...GREEDY, maxNewTokens: 8 };
  const written = async (prompt: string | readonly number[], how: WritingOptions) => {
    const generator = await openGenerator(folder);
    if (generator === undefined) throw new Error("there is no launcher");
    try {
      return await generator.generate(prompt, how);
    } finally {
      await generator.close();
    }
  };
  const write8 = () => written([5, 6, 7], options);
  const { ids: whole } = await write8();
  expect(whole).toHaveLength(8);
  const end = whole.find((id, i) => i > 1 && whole.indexOf(id) === i);
  writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ eos_token_id: [47, end] }));
  expect(await write8()).toMatchObject({
    ids: whole.slice(0, whole.indexOf(Number(end))),
    stopped: "end of text",
  });
  await expect(written("x", options)).rejects.toThrow(/has no tokenizer.json; give the prompt as token ids/);
  await expect(written([5], { ...options, stop: ["x"] })).rejects.toThrow(
    /has no tokenizer.json, so that there is no text to look for stop strings in/,
  );
});

it("a model is planned as it is", () => {
  const model = modelInputAt(join(FOLDERS, "longcat-flash"));
  const cases = [{ arch: String(model.arch), policy: "sequential" }];
  expect(plan({ model, cases, sequence: 8 }).rows[0].stepMs).toBeGreaterThan(0);
});

describe("training from a folder", () => {
  const folder = rewritten("qwen3-moe", {});
  const tokenizer = `data.tokenizer=${join(dir, "tokenizer.json")}`;
  const open = (...sets: string[]) => openRun({ from: folder, sets });

  it("takes its model, and what does not change tensors", () => {
    const { config, from } = open(tokenizer, "model.capacity_factor=2", "model.balance=bias");
    expect(from).toBe(folder);
    expect(config.model).toMatchObject({ family: "qwen3_moe", capacity_factor: 2, balance: "bias" });
    expect(() => open(tokenizer, "model.capacity_factor=2", "model.num_experts=3")).toThrow(
      /^model.num_experts 3 does not fit the weights of .*: .*mlp.gate.weight would be \[3, 16\]/,
    );
    expect(() => open(tokenizer, "model.preset=tiny")).toThrow(/model.preset is "tiny", but the model is/);
    expect(() => openRun({ from: folder, resume: folder })).toThrow(/leave out one of the two/);
  });

  it("wants its tokenizer", () => {
    expect(() => open()).toThrow(/has no tokenizer.json; set data.tokenizer/);
  });

  it("starts with its weights, in a run that can be gone on from", () => {
    const big = rewritten("qwen3-moe", {});
    const { config, source, close } = openModel(big);
    const rank = createTrainee({
      config: { ...config, balance: "bias" },
      engine,
      world: singleCommunicator(),
    });
    loadStart(rank, big);
    const name = "model.layers.1.mlp.experts.2.down_proj.weight";
    const wanted = new Float32Array(rank.weights.weight(name).length);
    source.readInto(name, wanted);
    expect(rank.weights.weight(name)).toEqual(wanted);
    close();
  });
});
