/** The weights of a published folder under our names: renamed, cut out of fused tensors, scaled where they are one byte each. */
import { join } from "node:path";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { numElements } from "../core/tensor.js";
import type { ModelConfig } from "../model/config.js";
import { type Family, type Stored, placesOf } from "../model/families/index.js";
import { listParameters } from "../model/parameters.js";
import { type BlockScales, applyBlockScales, scaleGrid } from "../storage/block-scales.js";
import type { FoundTensor, PublishedFiles } from "../storage/published-files.js";
import type { WeightSource } from "../storage/weight-source.js";

const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";

/** A tensor of ours where it was found: `start` elements into a tensor of a file. */
interface Located extends FoundTensor {
  readonly name: string;
  readonly dims: readonly number[];
  /** Elements before it, and rows of its matrix that are not its own. */
  readonly start: number;
  readonly firstRow: number;
  /** Of experts stored as one. */
  readonly expert?: number;
}

/** Rows and columns that one scale is for. */
export type ScaleBlocks = readonly [number, number];

const USUAL_BLOCKS: ScaleBlocks = [128, 128];

/**
 * Rows and columns that a scale of one-byte weights is for.
 * @throws InputError when weights are quantised in a way that is not supported
 */
export function scaleBlocks(json: Readonly<Record<string, unknown>>, where: string): ScaleBlocks {
  const how = (json.quantization_config ?? undefined) as Record<string, unknown> | undefined;
  if (how === undefined) return USUAL_BLOCKS;
  const method = typeof how === "object" ? how.quant_method : how;
  if (method !== "fp8")
    throw new InputError(`${where}: quantization_config.quant_method is ${shown(method)}; wanted "fp8"`);
  const { weight_block_size: blocks = USUAL_BLOCKS } = how;
  const areSizes = Array.isArray(blocks) && blocks.length === 2 && blocks.every(isSize);
  if (!areSizes)
    throw new InputError(
      `${where}: quantization_config.weight_block_size is ${shown(blocks)}; wanted two sizes such as [128, 128]`,
    );
  return blocks as unknown as ScaleBlocks;
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) > 0;
}

/** Whether head and embedding are one, as the files show: a head that differs is used whatever config.json says. */
export function tiesHead(files: PublishedFiles, isSaidToBe: boolean): boolean {
  if (!isSaidToBe) return false;
  const [head, embedding] = [files.find(HEAD), files.find(EMBEDDING)];
  return head === undefined || embedding === undefined || areEqual(embedding, head);
}

const COMPARED = 1 << 16;

function areEqual(a: FoundTensor, b: FoundTensor): boolean {
  if (a.info.dims.join() !== b.info.dims.join()) return false;
  const size = numElements(a.info.dims);
  const [left, right] = [new Float32Array(COMPARED), new Float32Array(COMPARED)];
  for (let at = 0; at < size; at += COMPARED) {
    const count = Math.min(COMPARED, size - at);
    a.file.readInto(EMBEDDING, left.subarray(0, count), at);
    b.file.readInto(HEAD, right.subarray(0, count), at);
    for (let i = 0; i < count; i++) if (left[i] !== right[i]) return false;
  }
  return true;
}

/** Where one of our tensors may lie in a family's files, most usual first. */
export function publishedPlaces(family: Family, config: ModelConfig, name: string): Stored[] {
  const own = placesOf(family.tensors, name);
  // Tied, and only the head is there: it is the embedding.
  return name === EMBEDDING && config.tie_word_embeddings ? [...own, { name: HEAD }] : own;
}

/** @param of the folder's family, and the rows and columns of one-byte weights that a scale is for */
export function publishedWeights(
  files: PublishedFiles,
  config: ModelConfig,
  of: { readonly family: Family; readonly blocks: ScaleBlocks },
): WeightSource {
  const wanted = new Map(listParameters(config).map((info) => [info.name, info.dims]));
  const locate = (name: string): Located => {
    const dims = wanted.get(name) ?? [];
    const all = publishedPlaces(of.family, config, name);
    for (const place of all) {
      const found = files.find(place.name);
      if (found !== undefined) return located(found, place, { dims, config });
    }
    const missing = files.whyMissing(all.map((place) => place.name));
    // Some readers make one up.
    throw name === HEAD
      ? new InputError(`${missing.message}; wanted, as config.json says that it is not tied to the embedding`)
      : missing;
  };
  return {
    where: files.directory,
    whenNotFinite: "the file is damaged, or the model was",
    names: [...wanted.keys()],
    dims: (name) => locate(name).dims,
    readInto(name, out, from = 0) {
      const place = locate(name);
      if (place.info.dtype.startsWith("F8")) readScaled(files, place, { out, from, blocks: of.blocks });
      else place.file.readInto(place.name, out, place.start + from);
    },
    close: () => files.close(),
  };
}

/** @throws InputError when the tensor has another shape than the model wants */
function located(
  found: FoundTensor,
  { name, slice }: Stored,
  { dims, config }: { readonly dims: readonly number[]; readonly config: ModelConfig },
): Located {
  const refuse = (text: string): never => {
    throw new InputError(
      `${found.file.path}: tensor "${name}" is [${found.info.dims.join(", ")}], config.json wants ${text}`,
    );
  };
  const has = found.info.dims;
  if (slice === undefined) {
    if (has.join() !== dims.join()) refuse(`[${dims.join(", ")}]`);
    return { ...found, name, dims, start: 0, firstRow: 0 };
  }
  const { num_experts: experts, num_zero_experts: zero } = config;
  const { expert, part, parts } = slice;
  const [rows, columns] = dims;
  const fits = has.length === 3 && has[1] === rows * parts && has[2] === columns;
  // Some tools keep room for experts that compute nothing.
  if (!fits || (has[0] !== experts && has[0] !== experts + zero))
    refuse(`[${[experts, rows * parts, columns].join(", ")}]`);
  const firstRow = part * rows;
  const start = (expert * rows * parts + firstRow) * columns;
  return { ...found, name, dims, start, firstRow, expert };
}

/** Reads one-byte weights times the scales of their blocks. @throws InputError when those are missing or of another shape */
function readScaled(
  files: PublishedFiles,
  place: Located,
  { out, from, blocks }: { readonly out: Float32Array; readonly from: number; readonly blocks: ScaleBlocks },
): void {
  const of = scalesOf(files, place, blocks);
  const { columns } = of;
  const row = Math.floor(from / columns);
  const before = from - row * columns;
  // Scales go by whole rows.
  const isWhole = before === 0 && out.length % columns === 0;
  const rows = isWhole ? out : new Float32Array(Math.ceil((before + out.length) / columns) * columns);
  place.file.readInto(place.name, rows, place.start + row * columns);
  applyBlockScales(rows, place.firstRow + row, of);
  if (!isWhole) out.set(rows.subarray(before, before + out.length));
}

function scalesOf(files: PublishedFiles, place: Located, blocks: ScaleBlocks): BlockScales {
  const name = `${place.name}_scale_inv`;
  const found = files.find(name);
  if (found === undefined) throw files.whyMissing([name]);
  const [rows, columns] = place.info.dims.slice(-2);
  const grid = scaleGrid([rows, columns], blocks);
  const wanted = [...place.info.dims.slice(0, -2), ...grid];
  if (place.info.dims.length < 2 || found.info.dims.join() !== wanted.join())
    throw new InputError(
      `${found.file.path}: tensor "${name}" is [${found.info.dims.join(", ")}], wanted [${wanted.join(", ")}]: one scale for ${blocks.join(" × ")} weights of "${place.name}"`,
    );
  const scales = new Float32Array(grid[0] * grid[1]);
  found.file.readInto(name, scales, (place.expert ?? 0) * scales.length);
  return { scales, blockRows: blocks[0], blockColumns: blocks[1], columns };
}

/** Tokens that end a text: what generation_config.json says, else config.json; undefined where neither says anything. */
export function endTokens(
  json: Readonly<Record<string, unknown>>,
  generation: Readonly<Record<string, unknown>> | undefined,
  directory: string,
): number[] | undefined {
  for (const [file, value] of [
    ["generation_config.json", generation?.eos_token_id],
    ["config.json", json.eos_token_id],
  ] as const) {
    if (value === undefined || value === null) continue;
    const list = Array.isArray(value) ? (value as unknown[]) : [value];
    if (list.every((token) => Number.isSafeInteger(token) && Number(token) >= 0)) return list as number[];
    throw new InputError(
      `${join(directory, file)}: eos_token_id is ${shown(value)}; wanted a token or a list of tokens`,
    );
  }
  return undefined;
}
