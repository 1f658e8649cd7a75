/** What a rank that infers takes while it reads its weights: the weights in the form held, and hardly more. */
import { spawnSync } from "node:child_process";
import { closeSync, openSync, rmSync, statfsSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { philox } from "../../src/core/rng.js";
import { safetensorsHeader } from "../../src/storage/safetensors.js";
import { temporaryDirectory } from "../helpers.js";

const SHAPE = { hidden: 1024, inner: 2816, layers: 8, experts: 4, vocabulary: 16_000, heads: 16, kvHeads: 4 };
const ROOM_BYTES = 3e9;
const dir = temporaryDirectory();
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A Mixtral of random weights in f32. @returns bytes of weights that products read, and of all others */
function writeMixtral(): { readonly products: number; readonly others: number } {
  const { hidden: H, inner: F, layers, experts, vocabulary: V, heads, kvHeads } = SHAPE;
  const kv = (H / heads) * kvHeads;
  const tensor = (name: string, ...dims: number[]) => ({
    name: `${name}.weight`,
    dtype: "F32",
    dims,
    bytes: 4 * dims.reduce((a, b) => a * b),
  });
  const layer = (i: number) => {
    const at = `model.layers.${i}`;
    return [
      tensor(`${at}.self_attn.q_proj`, H, H),
      tensor(`${at}.self_attn.k_proj`, kv, H),
      tensor(`${at}.self_attn.v_proj`, kv, H),
      tensor(`${at}.self_attn.o_proj`, H, H),
      tensor(`${at}.input_layernorm`, H),
      tensor(`${at}.post_attention_layernorm`, H),
      tensor(`${at}.block_sparse_moe.gate`, experts, H),
      ...Array.from({ length: experts }, (_, e) => [
        tensor(`${at}.block_sparse_moe.experts.${e}.w1`, F, H),
        tensor(`${at}.block_sparse_moe.experts.${e}.w2`, H, F),
        tensor(`${at}.block_sparse_moe.experts.${e}.w3`, F, H),
      ]).flat(),
    ];
  };
  const tensors = [
    tensor("model.embed_tokens", V, H),
    ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
    tensor("model.norm", H),
    tensor("lm_head", V, H),
  ];
  const noise = new Float32Array(2 ** 22);
  philox(1, "weights").fillNormal(noise, 0, 0.02);
  const bytes = new Uint8Array(noise.buffer);
  const file = openSync(join(dir, "model.safetensors"), "w");
  writeSync(file, safetensorsHeader(tensors));
  for (const { bytes: count } of tensors)
    for (let at = 0; at < count; at += bytes.length)
      writeSync(file, bytes.subarray(0, Math.min(bytes.length, count - at)));
  closeSync(file);
  const config = {
    architectures: ["MixtralForCausalLM"],
    model_type: "mixtral",
    torch_dtype: "float32",
    vocab_size: V,
    hidden_size: H,
    intermediate_size: F,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    num_local_experts: experts,
    num_experts_per_tok: 2,
    max_position_embeddings: 4096,
  };
  writeFileSync(join(dir, "config.json"), JSON.stringify(config));
  const isProduct = ({ name }: { name: string }): boolean => !/norm|gate\.|embed/.test(name);
  const sum = (list: typeof tensors): number => list.reduce((total, t) => total + t.bytes, 0);
  return { products: sum(tensors.filter(isProduct)), others: sum(tensors.filter((t) => !isProduct(t))) };
}

/** Opens a session, in a process of its own, and says by how much its memory has grown: at most, and afterwards. */
const READER = `
  import { readFileSync } from "node:fs";
  const [directory, form, dist] = process.argv.slice(-3);
  const from = (path) => import(dist + path);
  const { openModel } = await from("run/open-model.js");
  const { createInferenceRank } = await from("run/inference-rank.js");
  const { Session } = await from("run/session.js");
  const { sequential } = await from("schedule/sequential.js");
  const { buildProgram } = await from("model/language-model.js");
  const { createOrtEngine } = await from("engine/ort-engine.js");
  const { singleCommunicator } = await from("comm/single.js");
  const { heldWeights } = await from("run/held-weights.js");
  const { listParameters } = await from("model/parameters.js");
  const k = await from("kernel/build.js");
  const memory = () => Object.fromEntries([...readFileSync("/proc/self/status", "utf8").matchAll(/^(VmHWM|VmRSS):\\s+(\\d+) kB$/gm)]
    .map(([, key, kibibytes]) => [key, kibibytes * 1024]));
  const model = openModel(directory);
  const engine = createOrtEngine();
  engine.compile(k.kernel("warm", { y: k.add(k.input("x", [1]), k.scalar(1)) }));
  const program = buildProgram(model.config, { batch: 1, sequence: 8, epSize: 1, head: "logits", anyLength: true });
  const before = memory().VmRSS;
  const rank = createInferenceRank({ config: model.config, engine, world: singleCommunicator(), source: model.source, form });
  const session = new Session(rank, program.program, { keep: [program.output] });
  const { VmHWM } = memory();
  rank.weights.close();
  const { VmRSS } = memory();
  const run = session.run(sequential(program.program), new Map([
    [program.tokens, { data: Int32Array.of(1, 2, 3), dims: [3] }],
    [program.positions, { data: Int32Array.of(0, 1, 2), dims: [3] }],
  ]));
  const logits = run.read(program.output).data;
  const { heldBytes } = heldWeights(program.program, form, listParameters(model.config));
  console.log(JSON.stringify({ predicted: heldBytes, peak: VmHWM - before, held: VmRSS - before, finite: logits.every(Number.isFinite), norm: Math.hypot(...logits.subarray(0, 1000)) }));
`;

const { bavail, bsize } = statfsSync(dir);
const hasRoom = bavail * bsize > ROOM_BYTES;

describe.skipIf(!hasRoom)(
  "loading a model of 1.3 GB takes at most 1.2 × its weights in the form held",
  () => {
    let size: ReturnType<typeof writeMixtral>;
    beforeAll(() => {
      size = writeMixtral();
    });

    // Bits of a weight that products read: its own and, of a block of 64 or 128, those of a scale and of a sum that is packed with it.
    it.each([
      ["f32", 32],
      ["int8", 9],
      ["int4", 4.5],
    ])("%s", (form, bits) => {
      const wanted = (size.products * bits) / 32 + size.others;
      const dist = new URL("../../dist/", import.meta.url).href;
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        ["--input-type=module", "--eval", READER, dir, form, dist],
        { encoding: "utf8" },
      );
      expect(status, stderr).toBe(0);
      const found = JSON.parse(stdout) as {
        predicted: number;
        peak: number;
        held: number;
        finite: boolean;
        norm: number;
      };
      expect(found.finite && found.norm > 0).toBe(true);
      expect(Math.abs(found.predicted / wanted - 1)).toBeLessThan(1e-6);
      expect(found.held / wanted).toBeGreaterThan(0.9);
      expect(found.held / wanted).toBeLessThan(1.15);
      expect(found.peak / wanted).toBeLessThan(1.2);
    });
  },
);
