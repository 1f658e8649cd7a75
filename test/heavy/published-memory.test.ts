/** What a rank needs while it reads a large published model: its own weights, and hardly more. */
import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, rmSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { safetensorsHeader } from "../../src/storage/safetensors.js";
import { temporaryDirectory } from "../helpers.js";

const SHAPE = { hidden: 2048, inner: 7168, layers: 6, experts: 8, vocabulary: 32_000, heads: 16, kvHeads: 4 };
const NUM_SHARDS = 4;
/** A file of holes takes no room where the file system knows holes; where it does not, this much. */
const ROOM_BYTES = 6e9;
const dir = temporaryDirectory();
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Tensor {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly number[];
  readonly bytes: number;
}

function mixtralTensors(): Tensor[] {
  const { hidden: H, inner: F, layers, experts, vocabulary: V, heads, kvHeads } = SHAPE;
  const tensor = (name: string, ...dims: number[]): Tensor => ({
    name: `${name}.weight`,
    dtype: "BF16",
    dims,
    bytes: 2 * dims.reduce((a, b) => a * b),
  });
  const kv = (H / heads) * kvHeads;
  const layer = (i: number): Tensor[] => [
    tensor(`model.layers.${i}.self_attn.q_proj`, H, H),
    tensor(`model.layers.${i}.self_attn.k_proj`, kv, H),
    tensor(`model.layers.${i}.self_attn.v_proj`, kv, H),
    tensor(`model.layers.${i}.self_attn.o_proj`, H, H),
    tensor(`model.layers.${i}.input_layernorm`, H),
    tensor(`model.layers.${i}.post_attention_layernorm`, H),
    tensor(`model.layers.${i}.block_sparse_moe.gate`, experts, H),
    ...Array.from({ length: experts }, (_, e) => [
      tensor(`model.layers.${i}.block_sparse_moe.experts.${e}.w1`, F, H),
      tensor(`model.layers.${i}.block_sparse_moe.experts.${e}.w2`, H, F),
      tensor(`model.layers.${i}.block_sparse_moe.experts.${e}.w3`, F, H),
    ]).flat(),
  ];
  return [
    tensor("model.embed_tokens", V, H),
    ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
    tensor("model.norm", H),
    tensor("lm_head", V, H),
  ];
}

/** Zeros, that is holes, but for the first and the last element of each tensor: 1 and 2. @returns bytes of all tensors */
function writeMixtral(directory: string): number {
  const tensors = mixtralTensors();
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const shards: Tensor[][] = Array.from({ length: NUM_SHARDS }, () => []);
  let at = 0;
  for (const tensor of tensors) {
    shards[Math.floor((at / total) * NUM_SHARDS)].push(tensor);
    at += tensor.bytes;
  }
  const map: Record<string, string> = {};
  shards.forEach((shard, i) => {
    const file = `model-0000${i + 1}-of-0000${NUM_SHARDS}.safetensors`;
    const header = safetensorsHeader(shard);
    const open = openSync(join(directory, file), "w");
    writeSync(open, header);
    ftruncateSync(open, header.length + shard.reduce((sum, { bytes }) => sum + bytes, 0));
    let start = header.length;
    for (const { name, bytes } of shard) {
      writeSync(open, Uint8Array.of(0x80, 0x3f), 0, 2, start);
      writeSync(open, Uint8Array.of(0x00, 0x40), 0, 2, (start += bytes) - 2);
      map[name] = file;
    }
    closeSync(open);
  });
  const json = (name: string, value: unknown): void =>
    writeFileSync(join(directory, name), JSON.stringify(value));
  json("model.safetensors.index.json", { metadata: { total_size: total }, weight_map: map });
  json("config.json", {
    architectures: ["MixtralForCausalLM"],
    model_type: "mixtral",
    torch_dtype: "bfloat16",
    vocab_size: SHAPE.vocabulary,
    hidden_size: SHAPE.hidden,
    intermediate_size: SHAPE.inner,
    num_hidden_layers: SHAPE.layers,
    num_attention_heads: SHAPE.heads,
    num_key_value_heads: SHAPE.kvHeads,
    num_local_experts: SHAPE.experts,
    num_experts_per_tok: 2,
    max_position_embeddings: 4096,
  });
  return total;
}

/** One of two ranks reads its weights, in a process of its own, and says what it came to. */
const READER = `
  import { readFileSync } from "node:fs";
  const [directory, dist] = process.argv.slice(-2);
  const from = (path) => import(dist + path);
  const { openModel } = await from("run/open-model.js");
  const { loadWeights } = await from("run/load-weights.js");
  const { createRank } = await from("run/rank.js");
  const { createOrtEngine } = await from("engine/ort-engine.js");
  const { singleCommunicator } = await from("comm/single.js");
  const model = openModel(directory);
  // Nothing is sent while weights are read.
  const world = { ...singleCommunicator(), rank: 1, size: 2, split: () => singleCommunicator() };
  const rank = createRank({ config: model.config, engine: createOrtEngine(), world });
  loadWeights(rank, model.source);
  const tensors = rank.weights.buckets.flatMap(({ tensors, weights }) =>
    tensors.map(({ info, offset, size }) => [info.name, weights[offset], weights[offset + size - 1]]));
  const memory = Object.fromEntries([...readFileSync("/proc/self/status", "utf8").matchAll(/^(VmHWM|RssFile):\\s+(\\d+) kB$/gm)]
    .map(([, key, kibibytes]) => [key, kibibytes * 1024]));
  console.log(JSON.stringify({ ...memory, weights: rank.weights.bytes, tensors }));
`;

interface Read {
  readonly VmHWM: number;
  readonly RssFile: number;
  /** Bytes. */
  readonly weights: number;
  readonly tensors: readonly [name: string, first: number, last: number][];
}

it("reading one of two ranks' weights of a model of 4 GB takes at most 1.1 × those weights", (test) => {
  const { bavail, bsize } = statfsSync(dir);
  test.skip(bavail * bsize < ROOM_BYTES, `the disk of ${dir} has less than ${ROOM_BYTES / 1e9} GB free`);
  expect(writeMixtral(dir)).toBeGreaterThan(4e9);
  const dist = new URL("../../dist/", import.meta.url).href;
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ["--input-type=module", "--eval", READER, dir, dist],
    { encoding: "utf8", maxBuffer: 2 ** 24 },
  );
  expect(status, stderr).toBe(0);
  const { VmHWM, RssFile, weights, tensors } = JSON.parse(stdout) as Read;
  // Half of the experts, and all else.
  expect(tensors).toHaveLength(3 + SHAPE.layers * (7 + (3 * SHAPE.experts) / 2));
  expect(tensors.filter(([, first, last]) => first !== 1 || last !== 2)).toEqual([]);
  const ratio = (VmHWM - RssFile) / weights;
  expect(ratio).toBeGreaterThan(0.9);
  expect(ratio).toBeLessThan(1.1);
});
