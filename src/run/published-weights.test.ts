import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { readConfig } from "../model/families/index.js";
import { PublishedFiles } from "../storage/published-files.js";
import { publishedWeights, scaleBlocks } from "./published-weights.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-f8-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ROWS = 6;
const COLUMNS = 4;
const NAME = "model.layers.0.mlp.up_proj.weight";
const { family, config } = readConfig(
  {
    model_type: "llama",
    ...{ hidden_size: COLUMNS, intermediate_size: ROWS, num_attention_heads: 1, num_hidden_layers: 1 },
    vocab_size: 8,
  },
  "config.json",
);

/** Ones of one byte, and scales 1, 2, 3 … of blocks, in a grid of some shape. */
function opened(grid: readonly [number, number]) {
  const size = ROWS * COLUMNS;
  const scales = Float32Array.from({ length: grid[0] * grid[1] }, (_, i) => i + 1);
  const header = JSON.stringify({
    [NAME]: { dtype: "F8_E4M3", shape: [ROWS, COLUMNS], data_offsets: [0, size] },
    [`${NAME}_scale_inv`]: { dtype: "F32", shape: grid, data_offsets: [size, size + scales.byteLength] },
  });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const ones = Buffer.alloc(size, 0x38);
  writeFileSync(
    join(folder, "model.safetensors"),
    Buffer.concat([length, Buffer.from(header), ones, Buffer.from(scales.buffer)]),
  );
  return publishedWeights(new PublishedFiles(folder), config, { family, blocks: [4, 3] });
}

it("one-byte weights are scaled block by block, cut off at the edges, whatever part is read", () => {
  const source = opened([2, 2]);
  const all = new Float32Array(ROWS * COLUMNS);
  source.readInto(NAME, all);
  const [above, below] = [
    [1, 1, 1, 2],
    [3, 3, 3, 4],
  ];
  expect([...all]).toEqual([above, above, above, above, below, below].flat());
  const part = new Float32Array(9);
  source.readInto(NAME, part, 11);
  expect(part).toEqual(all.slice(11, 20));
  source.close();
});

it("scales of another grid are refused", () => {
  const source = opened([1, 2]);
  expect(() => source.readInto(NAME, new Float32Array(4))).toThrow(
    /up_proj.weight_scale_inv" is \[1, 2\], wanted \[2, 2\]: one scale for 4 × 3 weights/,
  );
  source.close();
  expect(() => scaleBlocks({ quantization_config: { quant_method: "gptq" } }, "x")).toThrow(/wanted "fp8"/);
  const odd = { quant_method: "fp8", weight_block_size: [0] };
  expect(() => scaleBlocks({ quantization_config: odd }, "x")).toThrow(/weight_block_size is \[0\]/);
});
