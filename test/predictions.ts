/**
 * What `scmoe plan`'s cost model and simulator say of systems that others have measured (docs/predictions.md). Constants are
 * data sheets', but for a link's rate where a paper says what share of the time communication takes on its machine: then that
 * share, of sequential top-2 in training, is what the rate follows from. No measured speed-up goes in.
 */
import { type CaseProgram, caseProgram, costsOf, simulateStep } from "../src/api/plan-case.js";
import { type PlanOptions, type Question, withDefaults } from "../src/api/plan-question.js";
import { type ModelInput, resolveModel } from "../src/model/config.js";
import { buildProgram } from "../src/model/language-model.js";
import { preset } from "../src/model/presets.js";
import type { Operator } from "../src/program/operator.js";
import type { OperatorClass } from "../src/program/work.js";
import { parsePolicy } from "../src/schedule/policy.js";
import { analyticCosts } from "../src/simulate/analytic.js";
import { type Cluster, cluster } from "../src/simulate/clusters.js";
import { type Costs, classCosts } from "../src/simulate/costs.js";
import { simulate } from "../src/simulate/simulate.js";
import type { TimelineSummary } from "../src/timeline/timeline.js";
import {
  DEEPSEEK_V3,
  H800,
  LLAMA_4_SCOUT,
  LONGCAT,
  LONGCAT_DECODE,
  MI300X,
  NEMOTRON_NANO,
  ONE_COPY_PER_NODE,
  swin,
  swinDense,
} from "./predicted-systems.js";

/** A figure that was published, as it stands in its source, and what is predicted of it. */
export interface PredictedFigure {
  readonly system: string;
  readonly figure: string;
  readonly published: number;
  readonly predicted: number;
  /** As numbers are written: times, shares, milliseconds. */
  readonly unit: "×" | "%" | "ms";
}

type Mode = "train" | "forward";
type At = Omit<PlanOptions, "model"> & { readonly model: ModelInput };

/** A step of an architecture under a policy. */
function step(at: At, arch: string, policyName: string): TimelineSummary {
  const question = withDefaults(at);
  const policy = parsePolicy(policyName);
  const { program } = caseProgram(question, arch, policy.chunks);
  const costs = costsOf(question);
  const schedule = policy.schedule(program, costs);
  return simulateStep(program, schedule, { ...question, costs, step: 0, simulated: "one" }).summary;
}

const MOE: ReadonlySet<OperatorClass> = new Set(["gate", "route", "encode", "expert", "decode"]);

/** Milliseconds of sequential top-2's transfers of rows, and of what else its MoE does. */
function moeTimes(at: At): { readonly rows: number; readonly compute: number } {
  const question: Question = withDefaults(at);
  const { program }: CaseProgram = caseProgram(question, "top2", 1);
  const costs = costsOf(question);
  const sum = (isWanted: (op: Operator) => boolean): number =>
    program.operators.filter(isWanted).reduce((total, op) => total + costs(op), 0);
  return {
    rows: sum((op) => op.kind === "transfer"),
    compute: sum((op) => op.stream === "compute" && MOE.has(op.work.class)),
  };
}

/** A cluster whose links are so fast that communication is such a share of the MoE's time, over all parts of a model. */
function linksAt(share: number, parts: readonly At[], described: Cluster): Cluster {
  const ideal = { ...described, latencyMs: 0, linkEfficiency: 1 };
  const all = parts.map((at) => moeTimes({ ...at, cluster: ideal }));
  const total = (of: "rows" | "compute"): number => all.reduce((sum, part) => sum + part[of], 0);
  const wanted = (total("compute") * share) / (1 - share);
  const faster = total("rows") / wanted;
  return {
    ...ideal,
    intraBytesPerMs: faster * ideal.intraBytesPerMs,
    interBytesPerMs: faster * ideal.interBytesPerMs,
  };
}

/** Step of SwinV2-MoE-S by architecture and policy. */
function swinSteps(described: Cluster, mode: Mode, cases: Readonly<Record<string, string>>) {
  const ranks = described.devicesPerNode * described.nodes;
  // One expert per device, 1,024 images in all.
  const batch = 1024 / ranks;
  const parts = swin(ranks).map(({ model, tokens }) => ({ model, sequence: tokens, batch, epSize: ranks }));
  const dense = swinDense(batch).reduce(
    (sum, { at }) => sum + step({ ...at, mode, cluster: described, epSize: 1 }, "dense", "sequential").stepMs,
    0,
  );
  return {
    parts,
    of: (links: Cluster): Record<string, { stepMs: number; hidden: number }> =>
      Object.fromEntries(
        Object.entries(cases).map(([name, policy]) => {
          const steps = parts.map((at) => step({ ...at, mode, cluster: links }, name.split(" ")[0], policy));
          const [exposed, communication] = (["exposedMs", "communicationMs"] as const).map((of) =>
            steps.reduce((sum, summary) => sum + summary[of], 0),
          );
          const stepMs = steps.reduce((sum, summary) => sum + summary.stepMs, dense);
          return [name, { stepMs, hidden: 1 - exposed / communication }];
        }),
      ),
  };
}

const TABLE_1 = {
  train: { top1: 1.27, shared: 1.24, "scmoe-pos1": 1.36, "scmoe-pos2": 1.43, "scmoe-pos3": 1.49 },
  forward: { top1: 1.39, shared: 1.35, "scmoe-pos1": 1.54, "scmoe-pos2": 1.66, "scmoe-pos3": 1.82 },
} as const;

const policyOf = (arch: string): string =>
  /^(scmoe|farskip|longcat)/.test(arch) ? "adaptive" : "sequential";
const MODE_NAMES = { train: "training", forward: "inference" } as const;

/** Ten cells: SwinV2-MoE-S, 8×A30 on PCIe, communication 60 % of the MoE's time. */
function firstTable(): PredictedFigure[] {
  const described = cluster("8xA30-PCIe");
  const archs = ["top2", ...Object.keys(TABLE_1.train)];
  const cases = Object.fromEntries(archs.map((arch) => [arch, policyOf(arch)]));
  return (["train", "forward"] as const).flatMap((mode) => {
    const steps = swinSteps(described, mode, cases);
    const links = linksAt(0.6, steps.parts, described);
    const found = steps.of(links);
    return Object.entries(TABLE_1[mode]).map(([arch, published]) => ({
      system: "SwinV2-MoE-S, 8×A30 PCIe",
      figure: `${MODE_NAMES[mode]}, ${arch} over top2`,
      published,
      predicted: found.top2.stepMs / found[arch].stepMs,
      unit: "×" as const,
    }));
  });
}

/** Two nodes: SwinV2-MoE-S with 16 experts, communication about half of the MoE's time. */
function twoNodes(): PredictedFigure[] {
  const described = cluster("2x8xA800");
  const cases = { shared: "sequential", top2: "pipelined(2)", "scmoe-pos2": "adaptive" };
  const steps = swinSteps(described, "train", cases);
  const found = steps.of(linksAt(0.5, steps.parts, described));
  const system = "SwinV2-MoE-S, 2×8×A800";
  const scmoe = found["scmoe-pos2"];
  return [
    { figure: "scmoe-pos2 over shared", published: 1.24, predicted: found.shared.stepMs / scmoe.stepMs },
    {
      figure: "scmoe-pos2 over pipelined top2",
      published: 1.43,
      predicted: found.top2.stepMs / scmoe.stepMs,
    },
  ]
    .map((row): PredictedFigure => ({ system, ...row, figure: `training, ${row.figure}`, unit: "×" }))
    .concat([
      {
        system,
        figure: "training, scmoe-pos2 hidden",
        published: 100,
        predicted: 100 * scmoe.hidden,
        unit: "%",
      },
    ]);
}

const LANGUAGE_MODELS: Readonly<
  Record<string, Readonly<Record<string, readonly [train: number, forward: number]>>>
> = {
  "gpt2-moe-medium": { shared: [1.04, 1.06], "scmoe-pos2": [1.12, 1.17] },
  "llama2-moe": { shared: [1.06, 1.11], "scmoe-pos1": [1.14, 1.21] },
  "gpt3-moe-xl": { top3: [0.94, 0.92], "scmoe2-pos2": [1.05, 1.08], "scmoe-pos2": [1.12, 1.18] },
};

/** 8×A800 on NVLink, communication 15 % of the MoE's time; 8 sequences of 2,048 per rank. */
function languageModels(): PredictedFigure[] {
  const described = cluster("8xA800-NVLink");
  return Object.entries(LANGUAGE_MODELS).flatMap(([name, archs]) =>
    (["train", "forward"] as const).flatMap((mode, i) => {
      const model = preset(name);
      const at = { model, batch: 8, sequence: 2048, epSize: 8 };
      const links = linksAt(0.15, [at], described);
      const of = (arch: string) => step({ ...at, mode, cluster: links }, arch, policyOf(arch)).stepMs;
      const top2 = of("top2");
      return Object.entries(archs).map(([arch, published]) => ({
        system: `${name}, 8×A800 NVLink`,
        figure: `${MODE_NAMES[mode]}, ${arch} over top2`,
        published: published[i],
        predicted: top2 / of(arch),
        unit: "×" as const,
      }));
    }),
  );
}

/** Megatron-Core's ShortcutMoE: 16,384 tokens per rank, 16 ranks to a copy of the experts. */
function megatron(): PredictedFigure[] {
  return (
    [
      ["two nodes of 8 H100, InfiniBand", "2x8xH100-IB", 8],
      ["one NVLink domain of B200", "2x8xB200-IB", 16],
    ] as const
  ).map(([where, name, devicesPerNode]) => {
    const described = { ...cluster(name), devicesPerNode, nodes: 16 / devicesPerNode };
    const at = { model: NEMOTRON_NANO, cluster: described, batch: 4, sequence: 4096, epSize: 16 };
    return {
      system: "Megatron-Core ShortcutMoE, Nano, EP 16",
      figure: `training, communication hidden, ${where}`,
      published: 94,
      predicted: 100 * step(at, "scmoe6-pos1", "adaptive").overlapShare,
      unit: "%" as const,
    };
  });
}

/** 28 layers; one token is drafted beside each, and four in five of those are accepted. */
const perToken = (stepMs: number): number => ((stepMs / (8 / 2)) * 28) / 1.8;

/** Training with 1,024 tokens of a sequence per rank (8,192 in context-parallel groups of 8). */
function longcatTraining(): PredictedFigure[] {
  const exposed = (policy: string, described: Cluster): number => {
    const at = { model: LONGCAT, cluster: described, batch: 1, sequence: 1024, epSize: 32 };
    const { exposedMs, stepMs } = step(at, "longcat12", policy);
    return (100 * exposedMs) / stepMs;
  };
  const sparing = { ...H800, interBytesPerMs: H800.interBytesPerMs * ONE_COPY_PER_NODE };
  return [["a copy per choice", H800] as const, ["a copy per node", sparing] as const].flatMap(
    ([how, described]) =>
      [
        { policy: "sequential", published: 25.3, as: "one after another" },
        { policy: "adaptive(2)", published: 8.4, as: "two chunks" },
      ].map(({ policy, published, as }) => ({
        system: "LongCat-Flash, 4×8×H800",
        figure: `training, exposed share of the step, ${as}, ${how}`,
        published,
        predicted: exposed(policy, described),
        unit: "%" as const,
      })),
  );
}

/** Decoding on 128 devices, 96 sequences of 5,000 tokens each, two tokens of each at a time; DeepEP brings 40 GB/s. */
function longcatDecoding(): PredictedFigure[] {
  const config = resolveModel(LONGCAT);
  const shape = { batch: 96, sequence: 2, epSize: 128, ranks: 128, wire: "bf16", cache: 5000 } as const;
  const { program } = buildProgram(config, { ...shape, head: "logits" });
  const schedule = parsePolicy("fixed(four-stage)").schedule(program);
  const described = { ...H800, nodes: 16, interBytesPerMs: 40e6, linkEfficiency: 1, latencyMs: 0 };
  const ours = analyticCosts({ cluster: described, elementBytes: 2, ranks: 128, epSize: 128 });
  const stepMs = (costs: Costs): number => simulate(program, schedule, { costs: [costs] }).summary.stepMs;
  const combine = program.operators.find(({ work }) => work.class === "combine");
  const system = "LongCat-Flash, 16×8×H800";
  return [
    {
      figure: "decoding, per token, by the report's operator times",
      published: 16,
      predicted: perToken(stepMs(classCosts(LONGCAT_DECODE, 0))),
    },
    {
      figure: "decoding, a combine",
      published: 0.472,
      predicted: combine === undefined ? NaN : ours(combine),
    },
    {
      figure: "decoding, per token, by this model's costs",
      published: 16,
      predicted: perToken(stepMs(ours)),
    },
  ].map((row) => ({ system, ...row, unit: "ms" }));
}

/** FarSkip: layers of DeepSeek-V3 in training, Llama 4 Scout reading prompts. */
function farskip(): PredictedFigure[] {
  const train = { model: DEEPSEEK_V3, batch: 2, sequence: 4096 };
  const prefill = { model: LLAMA_4_SCOUT, batch: 1, sequence: 8192, mode: "forward" as const };
  return [
    { figure: "training, DeepSeek-V3 layers, communication hidden", published: 88.9, at: train },
    { figure: "prefill, Llama 4 Scout, communication hidden", published: 97.6, at: prefill },
  ].map(({ figure, published, at }) => ({
    system: "FarSkip-Collective, 8×MI300X",
    figure,
    published,
    predicted: 100 * step({ ...at, cluster: MI300X, epSize: 8 }, at.model.arch, "adaptive").overlapShare,
    unit: "%",
  }));
}

/** Every figure, in the order of the page. */
export function predictedFigures(): PredictedFigure[] {
  return [firstTable, languageModels, twoNodes, megatron, longcatTraining, longcatDecoding, farskip].flatMap(
    (of) => of(),
  );
}
