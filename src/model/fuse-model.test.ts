/** Models whose kernels are fused: the same logits, few kernels, and nothing lost of the overlap. */
import { describe, expect, it } from "vitest";
import { ENGINES } from "../../test/engines.js";
import { nullCommunicator } from "../../test/null-communicator.js";
import { singleCommunicator } from "../comm/single.js";
import type { Tensor } from "../core/tensor.js";
import type { Engine } from "../engine/engine.js";
import { kernelKey } from "../kernel/key.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { whyIllegal } from "../program/validate.js";
import { createRank } from "../run/rank.js";
import { Session, type SessionOptions } from "../run/session.js";
import { parsePolicy } from "../schedule/policy.js";
import { sequential } from "../schedule/sequential.js";
import { type Costs, unitCosts } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { ARCHITECTURE_NAMES } from "./architectures.js";
import { resolveModel } from "./config.js";
import { type FusedModel, fuseModel } from "./fuse-model.js";
import { type ModelProgram, type ProgramOptions, buildProgram } from "./language-model.js";

const [BATCH, SEQUENCE, VOCABULARY] = [2, 8, 24];
const TOKENS = BATCH * SEQUENCE;

const configOf = (arch: string, more: object = {}) =>
  resolveModel({
    arch,
    vocab_size: VOCABULARY,
    hidden_size: 16,
    intermediate_size: 24,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: SEQUENCE,
    ...more,
  });
const OPTIONS: ProgramOptions = { batch: BATCH, sequence: SEQUENCE, epSize: 1, head: "logits" };
const modelOf = (arch: string, options: Partial<ProgramOptions> = {}, more: object = {}): ModelProgram =>
  buildProgram(configOf(arch, more), { ...OPTIONS, ...options });

const kernelsIn = ({ operators }: Program) => operators.flatMap((op) => (op.kind === "kernel" ? [op] : []));
const numbers = (length: number, of: (i: number) => number) => ({
  data: Int32Array.from({ length }, (_, i) => of(i)),
  dims: [length],
});

function feedsOf(model: ModelProgram): Map<number, unknown> {
  const { tokens, positions, starts, labels } = model;
  const feeds = new Map<number, unknown>([[tokens, numbers(TOKENS, (i) => (7 * i) % VOCABULARY)]]);
  if (positions !== undefined)
    feeds.set(
      positions,
      numbers(SEQUENCE, (i) => i),
    );
  if (starts !== undefined)
    feeds.set(starts, { ...numbers(TOKENS, (i) => (i % SEQUENCE < 3 ? 0 : 3)), dims: [BATCH, SEQUENCE] });
  if (labels !== undefined)
    feeds.set(
      labels,
      numbers(TOKENS, (i) => (5 * i) % VOCABULARY),
    );
  return feeds;
}

interface Case {
  readonly arch: string;
  readonly options?: Partial<ProgramOptions>;
  readonly config?: object;
  readonly session?: SessionOptions;
}

/** What a model gives, fused and not, one after the other on one rank. */
function outputs(engine: Engine, { arch, options, config, session }: Case): number[][] {
  const model = modelOf(arch, options, config);
  const epSize = options?.epSize ?? 1;
  const world = epSize === 1 ? singleCommunicator() : nullCommunicator({ rank: 0, size: epSize });
  const rank = createRank({ config: configOf(arch, config), engine, world, epSize });
  rank.weights.initialize(5, 0.3);
  const fused = fuseModel(model);
  expect(fused.program.operators.length).toBeLessThan(model.program.operators.length);
  return [model, fused].map((of) => {
    const opened = new Session(rank, of.program, { keep: [of.output], ...session });
    const run = opened.run(sequential(of.program), feedsOf(of));
    const found = [...run.read<Tensor>(of.output).data];
    run.release();
    expect(rank.memory.liveBytes).toBe(0);
    expect(Math.max(...found.map(Math.abs))).toBeGreaterThan(0.1);
    return found;
  });
}

/** onnxruntime fuses nothing across what were two kernels that would change a bit. */
describe.each(ENGINES)("a fused model, %s", (_, create) => {
  it("gives the same bits: all architectures, GPT and LLaMA style in turn", () => {
    const engine = create();
    ARCHITECTURE_NAMES.forEach((arch, i) => {
      // The reference takes its time.
      const styles = engine.name === "reference" ? [i % 2] : [0, 1];
      for (const style of styles) {
        const [wanted, found] = outputs(engine, { arch, config: { style: style === 0 ? "gpt" : "llama" } });
        expect(found, arch).toEqual(wanted);
      }
    });
    engine.dispose();
  });

  const CASES: Record<string, Case> = {
    "of fixed weights": { arch: "dense", session: { weights: "fixed" } },
    "of fixed weights, with experts": { arch: "scmoe-pos2", session: { weights: "fixed" } },
    "of any length": { arch: "shared", options: { anyLength: true }, config: { style: "llama" } },
    "with documents apart": { arch: "farskip", options: { documents: true } },
    "that gives losses": { arch: "dgmoe", options: { head: "losses" } },
    "in chunks": { arch: "top2", options: { chunks: 2 } },
    "whose shortcut shares a norm": { arch: "scmoe-pos2", config: { shortcut_norm: "reuse" } },
    "with zero experts": { arch: "longcat", config: { num_zero_experts: 2 } },
    "on a rank of two": { arch: "scmoe-pos2", options: { epSize: 2 } },
    "on a rank of two, FarSkip": { arch: "farskip", options: { epSize: 2 } },
    "on a rank of two, DGMoE": { arch: "dgmoe", options: { epSize: 2, chunks: 2 } },
  };
  it.each(Object.keys(CASES))("gives the same bits: %s", (name) => {
    const engine = create();
    const [wanted, found] = outputs(engine, CASES[name]);
    expect(found).toEqual(wanted);
    engine.dispose();
  });
});

describe("the kernels of a fused model", () => {
  it.each(ARCHITECTURE_NAMES)(
    "on one rank are one before each routing and one after the last: %s",
    (arch) => {
      const config = { num_hidden_layers: 8 };
      const { program, routings } = fuseModel(modelOf(arch, {}, config));
      const perLayer = arch.startsWith("dgmoe") ? 2 : 1;
      expect(kernelsIn(program)).toHaveLength(routings.length / perLayer + 1);
      // Whatever is left of sums is in them.
      expect(program.operators.filter(({ kind }) => kind === "sum")).toEqual([]);
    },
  );

  it("of a dense model are one, with all weights and the work of all; as often as it is fused", () => {
    const model = modelOf("dense");
    const fused = fuseModel(model);
    const [op, ...more] = kernelsIn(fused.program);
    expect(more).toEqual([]);
    expect(op.name).toBe("L0.attention+…+head");
    const parts = kernelsIn(model.program);
    const tensors = (ops: typeof parts): string[] =>
      ops.flatMap(({ data }) => Object.values(data.parameters).flat());
    expect(tensors([op]).sort()).toEqual(tensors(parts).sort());
    expect(op.work.flops).toBe(parts.reduce((sum, { work }) => sum + work.flops, 0));
    expect(fuseModel(fused).program).toEqual(fused.program);
  });

  it("are cut between blocks, or what they are made of, where weights are limited", () => {
    const model = modelOf("dense");
    const bytes = kernelsIn(model.program).map((op) => weightBytes(op));
    const limit = Math.max(...bytes) * 2;
    const { program } = fuseModel(model, { maxWeightBytes: limit });
    for (const op of kernelsIn(program)) expect(weightBytes(op)).toBeLessThanOrEqual(limit);
    expect(kernelsIn(program).length).toBeGreaterThan(2);
    expect(kernelsIn(program).length).toBeLessThan(bytes.length);
  });

  function weightBytes(op: Operator): number {
    if (op.kind !== "kernel") return 0;
    const parameters = op.data.kernel.inputs.filter(({ name }) => op.data.parameters[name] !== undefined);
    return parameters.reduce(
      (sum, { expr }) => sum + expr.dims.reduce<number>((p, d) => p * Number(d), 4),
      0,
    );
  }

  it("of layers that are alike are one, compiled once", () => {
    const { program } = fuseModel(modelOf("scmoe-pos2", {}, { num_hidden_layers: 12 }));
    const kernels = kernelsIn(program).map(({ data }) => data.kernel);
    expect(kernels).toHaveLength(7);
    expect(new Set(kernels).size).toBe(2);
    expect(new Set(kernels.map(kernelKey)).size).toBe(2);
    expect(new Set(kernelsIn(program).map(({ cost }) => cost)).size).toBe(2);
  });

  it("of very many layers are several, which soon compile, unless that is not wanted", () => {
    const model = modelOf("dense", {}, { num_hidden_layers: 120 });
    const { program } = fuseModel(model);
    const numKernels = kernelsIn(program).length;
    expect(numKernels).toBeGreaterThan(5);
    expect(numKernels).toBeLessThan(241 / 10);
    const [all] = kernelsIn(fuseModel(model, { maxOps: Infinity }).program);
    expect(Object.keys(all.data.parameters).length).toBeGreaterThan(1000);
    // Walking it does not overflow.
    expect(kernelKey(all.data.kernel).length).toBeGreaterThan(10_000);
  });
});

describe("overlap", () => {
  /** Costs of a fused program: those of the parts. */
  const fusedCosts = (model: ModelProgram, fused: FusedModel, costs: Costs): Costs => {
    const total = new Map<string, number>();
    for (const op of model.program.operators) {
      const name = fused.program.operators[fused.operators[op.id]].name;
      total.set(name, (total.get(name) ?? 0) + costs(op));
    }
    return (op) => total.get(op.name) as number;
  };
  const POLICIES = [
    "sequential",
    "fixed(1)",
    "fixed(2)",
    "fixed(four-stage)",
    "pipelined(2)",
    "adaptive",
    "adaptive(2)",
  ];

  it.each(ARCHITECTURE_NAMES)("can be asked for by every policy, which fused programs keep: %s", (arch) => {
    for (const policy of POLICIES) {
      const { chunks, schedule } = parsePolicy(policy);
      const model = modelOf(arch, { epSize: 2, chunks });
      const wanted = schedule(model.program, unitCosts);
      const free = fuseModel(model);
      expect(whyIllegal(free.program, schedule(free.program)), policy).toBeUndefined();
      const fused = fuseModel(model, { schedule: wanted });
      const translated = fused.schedule as typeof wanted;
      expect(whyIllegal(fused.program, translated), policy).toBeUndefined();
      const before = simulate(model.program, wanted, { costs: [unitCosts] }).summary;
      const after = simulate(fused.program, translated, {
        costs: [fusedCosts(model, fused, unitCosts)],
      }).summary;
      expect(after.exposedMs, policy).toBeCloseTo(before.exposedMs, 9);
      expect(after.stepMs, policy).toBeCloseTo(before.stepMs, 9);
    }
  });

  it.each(["scmoe-pos1", "scmoe-pos2", "scmoe-pos3", "scmoe2-pos2", "longcat", "farskip"])(
    "is found as before, whatever transfers and experts cost: %s",
    (arch) => {
      const { schedule } = parsePolicy("adaptive");
      const model = modelOf(arch, { epSize: 2 });
      for (const transferMs of [0.2, 1, 2.5])
        for (const expertMs of [0.3, 2]) {
          const costs: Costs = (op) =>
            op.kind === "transfer" ? transferMs : op.kind === "expert" ? expertMs : unitCosts(op);
          const placed = schedule(model.program, costs);
          const wanted = simulate(model.program, placed, { costs: [costs] }).summary;
          for (const fused of [fuseModel(model), fuseModel(model, { schedule: placed })]) {
            const own = fusedCosts(model, fused, costs);
            const { summary } = simulate(fused.program, schedule(fused.program, own), { costs: [own] });
            expect(summary.exposedMs).toBeLessThanOrEqual(wanted.exposedMs + 1e-9);
            expect(summary.stepMs).toBeLessThanOrEqual(wanted.stepMs + 1e-9);
          }
        }
    },
  );

  it("is kept of a dense path in pieces, where the schedule leaves nothing between them", () => {
    const model = modelOf("scmoe-pos2", { epSize: 2 });
    const names = (fused: FusedModel) => kernelsIn(fused.program).map(({ name }) => name);
    expect(names(fuseModel(model)).slice(0, 4)).toEqual([
      "L0.attention+L1.gate",
      "L0.mlp",
      "L1.attention",
      "L1.shared",
    ]);
    const { schedule } = parsePolicy("fixed(2)");
    expect(names(fuseModel(model, { schedule: schedule(model.program) })).slice(0, 3)).toEqual([
      "L0.attention+L1.gate",
      "L0.mlp",
      "L1.attention+L1.shared",
    ]);
  });
});
