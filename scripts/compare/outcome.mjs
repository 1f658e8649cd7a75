// What a training run left behind: rows of metrics.jsonl and, of every step, weights, gradients and second
// moments; and how two of them differ.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";

/** Figures that do not depend on the clock. */
const FIGURES = [
  ...["loss", "lm_loss", "grad_norm", "learning_rate", "balance_loss", "z_loss", "validation_loss"],
  ...["dropped_share", "load_entropy", "load_imbalance"],
];
const LAYER_FIGURES = ["tokens_per_expert", "dropped_share", "entropy"];
const KINDS = ["gradients", "second moments", "weights"];

/**
 * @param {string} run directory
 * @param {number} steps that it must hold
 * @returns {{ rows: Map<number, Map<string, string>>, checkpoints: Map<number, Map<string, object>> }} by step:
 *   figures as JSON by name; tensors by name
 * @throws Error when a row, a checkpoint or a kind of tensors is missing: nothing is never equal to nothing
 */
export function readOutcome(run, steps) {
  const rows = new Map();
  for (const line of readFileSync(join(run, "metrics.jsonl"), "utf8").trim().split("\n")) {
    const row = JSON.parse(line);
    rows.set(row.step, figuresOf(row));
  }
  const checkpoints = new Map();
  for (const file of readdirSync(run, { recursive: true })
    .filter((f) => f.endsWith(".safetensors"))
    .sort()) {
    const step = Number(/(\d+)$/.exec(dirname(file))?.[1]);
    if (!checkpoints.has(step)) checkpoints.set(step, new Map());
    readSafetensors(join(run, file), checkpoints.get(step));
  }
  for (const tensors of checkpoints.values()) joinShards(tensors);
  for (let step = 1; step <= steps; step++) {
    if (!rows.has(step)) throw new Error(`metrics.jsonl has no row of step ${step}`);
    const names = [...(checkpoints.get(step)?.keys() ?? [])];
    for (const kind of KINDS)
      if (!names.some((name) => kindOf(name) === kind)) throw new Error(`no ${kind} of step ${step}`);
  }
  return { rows, checkpoints };
}

function figuresOf(row) {
  const figures = FIGURES.map((name) => [name, row[name]]);
  for (const layer of row.layers ?? [])
    for (const name of LAYER_FIGURES) figures.push([`${layer.layer} ${name}`, layer[name]]);
  return new Map(
    figures.flatMap(([name, value]) => (value === undefined ? [] : [[name, JSON.stringify(value)]])),
  );
}

/** 8 bytes little-endian header length, JSON header, data. Adds to `tensors`: name → dtype, dims, data. */
function readSafetensors(path, tensors) {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...header } = JSON.parse(bytes.toString("utf8", 8, start));
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (tensors.has(name)) throw new Error(`${path}: tensor ${name} is stored twice`);
    const [from, to] = data_offsets;
    tensors.set(name, { dtype, dims: shape, data: bytes.subarray(start + from, start + to) });
  }
}

/** ZeRO stores pieces "name@from-to" of a flat tensor: puts them together, however they are cut. */
function joinShards(tensors) {
  const shards = new Map();
  for (const [key, tensor] of tensors) {
    const [, name, from] = /^(.*)@(\d+)-\d+$/.exec(key) ?? [];
    if (name === undefined) continue;
    shards.set(name, [...(shards.get(name) ?? []), { from: Number(from), ...tensor }]);
    tensors.delete(key);
  }
  for (const [name, pieces] of shards) {
    const data = Buffer.concat(pieces.sort((a, b) => a.from - b.from).map((piece) => piece.data));
    tensors.set(name, { dtype: pieces[0].dtype, dims: "flat", data });
  }
}

function kindOf(name) {
  if (name.endsWith(".exp_avg")) return "gradients";
  return name.endsWith(".exp_avg_sq") ? "second moments" : "weights";
}

/** Equal for equal outcomes only; independent of the layout of files. */
export function digestOf({ rows, checkpoints }) {
  const hash = createHash("sha256");
  const sorted = (map) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [step, figures] of sorted(rows)) hash.update(JSON.stringify([step, sorted(figures)]));
  for (const [step, tensors] of sorted(checkpoints))
    for (const [name, { dtype, dims, data }] of sorted(tensors))
      hash.update(JSON.stringify([step, name, dtype, dims, data.length])).update(data);
  return hash.digest("hex");
}

/** @returns {string[]} phrases: figures of metrics.jsonl, then kinds of tensors: what, first step, how much */
export function differences(before, after) {
  const found = [];
  const figures = new Map();
  for (const step of union(before.rows, after.rows)) {
    const [a, b] = [before, after].map(({ rows }) => rows.get(step) ?? new Map());
    for (const name of [...a.keys(), ...b.keys()])
      if (a.get(name) !== b.get(name) && !figures.has(name))
        figures.set(name, { step, was: a.get(name), is: b.get(name) });
  }
  const [first, ...others] = [...figures].map(([name, { step, was = "none", is = "none" }], i) =>
    i === 0 ? `${name} from step ${step} (${was} → ${is})` : `${name} (${step})`,
  );
  if (first !== undefined) found.push([first, ...others].join(", "));
  for (const kind of KINDS) {
    const count = { first: undefined, bytes: 0, of: 0 };
    for (const step of union(before.checkpoints, after.checkpoints)) {
      const [a, b] = [before, after].map(({ checkpoints }) => checkpoints.get(step) ?? new Map());
      for (const name of [...union(a, b)].filter((name) => kindOf(name) === kind)) {
        const { reason, bytes } = compareTensors(a.get(name), b.get(name));
        count.of += Math.max(a.get(name)?.data.length ?? 0, b.get(name)?.data.length ?? 0);
        count.bytes += bytes;
        if (reason !== undefined) count.first ??= `from step ${step} (${name}: ${reason})`;
      }
    }
    if (count.first !== undefined)
      found.push(`${kind} ${count.first}, ${count.bytes} of ${count.of} bytes over all steps`);
  }
  return found;
}

function compareTensors(a, b) {
  if (a === undefined || b === undefined)
    return { reason: a === undefined ? "only in NEW" : "only in OLD", bytes: (a ?? b).data.length };
  const [was, is] = [a, b].map(({ dtype, dims }) => `${dtype} ${JSON.stringify(dims)}`);
  if (was !== is) return { reason: `${was} → ${is}`, bytes: Math.max(a.data.length, b.data.length) };
  let bytes = 0;
  for (let i = 0; i < a.data.length; i++) if (a.data[i] !== b.data[i]) bytes++;
  return { reason: bytes > 0 ? `${bytes} of ${a.data.length} bytes` : undefined, bytes };
}

const union = (a, b) => new Set([...a.keys(), ...b.keys()].sort((x, y) => (x < y ? -1 : 1)));
