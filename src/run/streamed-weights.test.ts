/** A rank that reads its weights while sessions are opened: what it computes, what it reads, what it refuses. */
import { afterAll, describe, expect, it } from "vitest";
import { countingEngine } from "../../test/engines.js";
import type { Communicator } from "../comm/communicator.js";
import { singleCommunicator } from "../comm/single.js";
import type { Tensor } from "../core/tensor.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import type { WeightForm } from "../kernel/quantise.js";
import { resolveModel } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";
import { listParameters } from "../model/parameters.js";
import { sequential } from "../schedule/sequential.js";
import type { WeightSource } from "../storage/weight-source.js";
import type { Services } from "./context.js";
import { heldWeights } from "./held-weights.js";
import { createInferenceRank } from "./inference-rank.js";
import { inferenceNeed } from "./inference-need.js";
import { createRank } from "./rank.js";
import { Session } from "./session.js";

const config = resolveModel(
  {
    arch: "scmoe-pos2",
    style: "gpt",
    tie_word_embeddings: false,
    vocab_size: 40,
    hidden_size: 48,
    intermediate_size: 80,
    num_attention_heads: 4,
    num_hidden_layers: 2,
    num_experts: 4,
    max_position_embeddings: 16,
  },
  "the test",
);
const { engine, compiled } = countingEngine(createOrtEngine());
afterAll(() => engine.dispose());
const world = singleCommunicator();

const kept = createRank({ config, engine, world });
kept.weights.initialize(3, 0.3);

interface Log {
  readonly read: string[];
  closed: boolean;
}

/** The weights of `kept` as a source, some of them changed. */
function sourceOf(changed: { drop?: string; add?: string; spoil?: string; widen?: string } = {}): {
  source: WeightSource;
  log: Log;
} {
  const { weights } = kept;
  const infos = [
    ...weights.buckets.flatMap((bucket) => bucket.tensors.map((t) => t.info)),
    ...[...weights.buffers.values()].map((b) => b.info),
  ];
  const names = infos.map(({ name }) => name).filter((name) => name !== changed.drop);
  const log: Log = { read: [], closed: false };
  const source: WeightSource = {
    where: "there",
    whenNotFinite: "take another",
    names: changed.add === undefined ? names : [...names, changed.add],
    dims(name) {
      const info = infos.find((i) => i.name === name && names.includes(name));
      if (info === undefined) throw new Error(`no ${name}`);
      return name === changed.widen ? [...info.dims, 2] : info.dims;
    },
    readInto(name, out, from = 0) {
      log.read.push(name);
      const data = weights.buffers.get(name)?.data ?? weights.weight(name);
      out.set(data.subarray(from, from + out.length));
      if (name === changed.spoil) out[out.length - 1] = NaN;
    },
    close: () => (log.closed = true),
  };
  return { source, log };
}

const model = buildProgram(config, { batch: 2, sequence: 5, epSize: 1, head: "logits" });

function logits(rank: Services, form: WeightForm = "f32", weights?: "fixed"): Float32Array {
  const session = new Session({ ...rank, form }, model.program, { keep: [model.output], weights });
  const tokens = { data: Int32Array.from({ length: 10 }, (_, i) => (i * 7) % 40), dims: [10] };
  const run = session.run(sequential(model.program), new Map([[model.tokens, tokens]]));
  const found = run.read<Tensor<Float32Array>>(model.output).data.slice();
  run.release();
  return found;
}

const streamed = (of: Parameters<typeof sourceOf>[0] = {}, form: WeightForm = "f32", places = {}) => {
  const { source, log } = sourceOf(of);
  return { log, rank: createInferenceRank({ config, engine, world, source, form, ...places }) };
};

describe("a rank whose weights are streamed", () => {
  it.each(["f32", "int8", "int4"] as const)(
    "gives the bits of weights that are kept and fixed: %s",
    (form) => {
      const { rank, log } = streamed({}, form);
      const found = logits(rank, form);
      expect(found.some((v) => Math.abs(v) > 0.1)).toBe(true);
      expect(found).toEqual(logits(kept, form, "fixed"));
      expect(log.closed).toBe(false);
      rank.weights.close();
      expect(log.closed).toBe(true);
      expect(() => rank.weights.span(["lm_head.weight"])).toThrow(
        "weights are asked for after they were closed",
      );
    },
  );

  it("compiles what several sessions have in common once, and reads it once", () => {
    const { rank, log } = streamed();
    const first = logits(rank);
    const read = log.read.length;
    expect(new Set(log.read).size).toBe(read);
    compiled();
    expect(logits(rank)).toEqual(first);
    expect(log.read.length).toBe(read);
    rank.weights.close();
    expect(logits(rank)).toEqual(first);
  });

  it("looks at its own experts only", () => {
    const half: Communicator = { ...world, rank: 1, size: 2, split: () => world };
    const { rank, log } = streamed({ drop: expertTensor(0) }, "int4", { world: half });
    const last = expertTensor(3);
    rank.weights.quantised([last], { dims: rank.weights.dims(last), bits: 4 });
    expect(log.read).toContain(last);
    expect(() => rank.weights.dims(expertTensor(0))).toThrow("is not on this rank");
  });
});

describe("what kernels hold", () => {
  const parameters = listParameters(config);
  const sizeOf = (isWanted: (info: (typeof parameters)[number]) => boolean): number =>
    parameters.filter(isWanted).reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b), 0);

  it("is known beforehand, and what the largest kernel reads", () => {
    const all = heldWeights(model.program, "f32", parameters);
    expect(all.heldBytes).toBe(4 * sizeOf(() => true));
    // Attention: queries, keys, values and the projection back, their biases, and a norm.
    expect(all.readingBytes).toBe(4 * (4 * 48 * 48 + 4 * 48 + 2 * 48));
    // 48 and 80 columns are 2 and 3 blocks of 32; tables, norms, biases and gates stay f32.
    const inBits = ({ name, dims }: (typeof parameters)[number]): boolean =>
      dims.length === 2 && !/embed|gate/.test(name);
    const blocks = parameters
      .filter(inBits)
      .reduce((sum, { dims: [rows, columns] }) => sum + rows * Math.ceil(columns / 32), 0);
    const others = 4 * sizeOf((info) => !inBits(info));
    for (const [form, bits] of [["int8", 8] as const, ["int4", 4] as const])
      expect(heldWeights(model.program, form, parameters).heldBytes).toBe(blocks * (4 * bits + 8) + others);
    const need = { batch: 2, sequence: 5, head: "logits", ranks: 1, inProcess: 1, base: 0 } as const;
    expect(inferenceNeed(config, { ...need, form: "int4" }).weights).toBe(
      heldWeights(model.program, "int4", parameters).heldBytes,
    );
  });
});

describe("is refused before anything is compiled", () => {
  it.each([
    [{ drop: "lm_head.weight" }, "no lm_head.weight"],
    [{ add: "extra" }, 'there: tensor "extra" has no place in arch scmoe-pos2'],
    [{ widen: "lm_head.weight" }, 'there: tensor "lm_head.weight" is [40, 48, 2], the config wants [40, 48]'],
  ])("%o", (changed, message) => {
    compiled();
    expect(() => streamed(changed)).toThrow(message);
    expect(compiled()).toBe(0);
  });

  it.each(["f32", "int4"] as const)("or read to its end: a tensor that is not finite, %s", (form) => {
    const { rank } = streamed({ spoil: "lm_head.weight" }, form);
    expect(() => logits(rank, form)).toThrow(
      'there: tensor "lm_head.weight" has values that are not finite; take another',
    );
  });
});

function expertTensor(index: number): string {
  const names = kept.weights.buckets.flatMap((b) => b.tensors.map((t) => t.info));
  const found = names.find((info) => info.expert === index && info.dims.length === 2);
  if (found === undefined) throw new Error(`no expert ${index}`);
  return found.name;
}
