/**
 * A language model as a program: embedding, blocks, head. Values: T tokens per rank and micro-batch, D width,
 * N experts; sizes in bytes are upper bounds.
 */
import type { Symbols } from "../kernel/symbols.js";
import type { LearnedPositions } from "../program/kinds.js";
import type { OperatorOf } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { ModelConfig } from "./config.js";
import type { RoutingRule } from "./routed-branch.js";
import type { Distillation, HeadOutput } from "./parts/head.js";
import { type ModelStructure, structureOf } from "./structure.js";
import { type BlockCache, type WireOptions, Wires } from "./wires.js";
import { type Block, WIRINGS } from "./wirings.js";

/** The sizes and the purpose that a program is built for. */
export interface ProgramOptions extends WireOptions {
  readonly head: HeadOutput;
}

/** A forward pass as a program, and the ids of the values that the caller feeds and reads. */
export interface ModelProgram {
  readonly program: Program;
  readonly symbols: Symbols;
  readonly options: ProgramOptions;
  /** Fed: token ids [T]. */
  readonly tokens: number;
  /** Fed where the head gives losses: token ids [T]. */
  readonly labels?: number;
  /** Fed where attention is of any length: position of each row of a sequence [S], or with a cache of each sequence [B, 1, S]. */
  readonly positions?: number;
  /** Fed where documents are told apart: where in its sequence each row's document begins [B, S]. */
  readonly starts?: number;
  /** With a cache. */
  readonly cache?: CacheInputs;
  /** Fed, where there is gate noise: standard normal [T, N] per routing. */
  readonly noise: readonly number[];
  /** Losses [T] or logits [T, V]. */
  readonly output: number;
  /** Of a student: what it is fed, the teacher's logits [T, V], and what else its head gives, divergences from them [T]. */
  readonly distilled?: { readonly teacher: number; readonly divergences: number };
  readonly routings: readonly OperatorOf<"route">[];
}

/** What a program with a cache is fed beside, and its states. */
export interface CacheInputs {
  /** Place of each sequence's last row, [B]; rows of the longest sequence, its new ones included, [1]. */
  readonly last: number;
  readonly total: number;
  /** Which of the T rows the head is for, [L]. */
  readonly wanted: number;
  readonly blocks: readonly BlockCache[];
}

function routingRule(config: ModelConfig): RoutingRule {
  const { topK, norm_topk_prob: renormalize, expert_groups: count, expert_groups_kept: kept } = config;
  return {
    topK,
    capacityFactor: config.capacity_factor,
    renormalize: renormalize === "always" || (renormalize && topK > 1),
    scores: config.router_scores,
    scaling: config.routed_scaling_factor,
    groups: count > 1 ? { count, kept, score: config.expert_group_score } : undefined,
    numZeroExperts: config.num_zero_experts,
    activeExperts: config.active_experts ?? topK,
    balanceGroups: config.balance_groups,
  };
}

/** Wires a model's forward pass. */
export function buildProgram(config: ModelConfig, options: ProgramOptions): ModelProgram {
  return wireModel(config, options, { withNoise: false });
}

/** @param how `withNoise`: noise on the gates' logits is an input, as training wants it; `distill`: as a student's is */
export function wireModel(
  config: ModelConfig,
  options: ProgramOptions,
  how: { readonly withNoise: boolean; readonly distill?: Distillation | undefined },
): ModelProgram {
  const wires = new Wires(config.hidden_size, options);
  const structure = structureOf(config);
  const { builder, tokens: T } = wires;
  const tokens = builder.value("tokens", T * 4);
  const labels = options.head === "logits" ? undefined : builder.value("labels", T * 4);
  const isCached = options.cache !== undefined;
  const positions =
    options.anyLength || isCached
      ? builder.value("positions", (isCached ? T : options.sequence) * 4)
      : undefined;
  const starts = options.documents ? builder.value("starts", T * 4) : undefined;
  const cached = isCached
    ? {
        last: builder.value("last", options.batch * 4),
        total: builder.value("total", 4),
        wanted: builder.value("wanted", T * 4),
      }
    : undefined;
  const beside = { positions, starts, last: cached?.last, total: cached?.total };
  const embedded = addEmbedding(wires, structure, tokens, { starts, at: cached && positions });

  const firstMoe = structure.blocks.findIndex(({ moe }) => moe !== undefined);
  const blocks = structure.blocks.map((parts, layer): Block => ({
    layer,
    parts,
    architecture: config.architecture,
    rule: routingRule(config),
    isFirstMoe: layer === firstMoe,
    isFirstBlock: layer === 0,
    withNoise: how.withNoise && config.gate_noise,
    reusesNorm: config.shortcut_norm === "reuse",
    denseReads: config.dense_reads,
    beside,
  }));
  const x = WIRINGS[config.architecture.wiring](wires, blocks, embedded);
  const student =
    labels === undefined || how.distill === undefined
      ? undefined
      : addStudentHead(wires, structure, { x, labels, distill: how.distill });
  const output = student?.losses ?? addHead(wires, structure, { x, labels, wanted: cached?.wanted });
  const program = builder.build(`${config.arch} ${options.head}`);
  const routings = program.operators.flatMap((op) => (op.kind === "route" ? [op] : []));
  return {
    program,
    symbols: wires.symbols,
    options,
    tokens,
    labels,
    positions,
    starts,
    cache: cached && { ...cached, blocks: wires.caches },
    noise: wires.noise,
    output,
    distilled: student,
    routings,
  };
}

/**
 * Embeds tokens, [T].
 * @param of `starts`: where documents are told apart, where in its sequence each row's document begins, [B, S]; `at`: the rows'
 *   positions, T of them, where they do not count on from 0
 * @returns the stream, [T, D]
 */
export function addEmbedding(
  wires: Wires,
  { embedding }: ModelStructure,
  tokens: number,
  of: Pick<LearnedPositions, "starts" | "at"> = {},
): number {
  const output = wires.rows("embedding");
  const { table, positions, padding } = embedding;
  const learned =
    positions === undefined ? undefined : { table: positions, period: wires.options.sequence, ...of };
  const further = [learned?.starts, learned?.at].filter((value) => value !== undefined);
  wires.builder.add({
    name: "embed",
    kind: "embed",
    reads: [tokens, ...further],
    writes: [output],
    work: { class: "embed", flops: 0, bytes: 2 * wires.tokens * wires.width * 4 },
    data: {
      tokens,
      output,
      embedding: table,
      positions: learned,
      padding,
    },
  });
  return output;
}

/**
 * The final norm and the head.
 * @param of `wanted`: the rows that it is for, [L]; default all
 * @returns losses [T] where there are labels, logits [T, V] or [L, V] otherwise
 */
export function addHead(
  wires: Wires,
  { head }: ModelStructure,
  of: { readonly x: number; readonly labels?: number | undefined; readonly wanted?: number | undefined },
): number {
  const { x, labels, wanted } = of;
  const [name, width] = labels === undefined ? (["logits", head.width] as const) : (["losses", 1] as const);
  const output = wires.builder.value(name, wires.tokens * 4 * width);
  const given = Object.entries({ x, labels, wanted }).filter((entry) => entry[1] !== undefined);
  if (wanted !== undefined) wires.symbols.set("L", wires.tokens);
  wires.part("head", head, [name, undefined, wanted === undefined ? "all" : "wanted"], {
    inputs: Object.fromEntries(given) as Record<string, number>,
    outputs: { [name]: output },
  });
  return output;
}

/** The final norm and a head that learns from labels, [T], and from a teacher's logits, [T, V], which it is fed. */
function addStudentHead(
  wires: Wires,
  { head }: ModelStructure,
  { x, labels, distill }: { readonly x: number; readonly labels: number; readonly distill: Distillation },
): { readonly losses: number; readonly teacher: number; readonly divergences: number } {
  const perToken = (name: string, width: number): number =>
    wires.builder.value(name, wires.tokens * 4 * width);
  const teacher = perToken("teacher", head.width);
  const [losses, divergences] = [perToken("losses", 1), perToken("divergences", 1)];
  wires.part("head", head, ["losses", distill], {
    inputs: { x, labels, teacher },
    outputs: { losses, divergences },
  });
  return { losses, teacher, divergences };
}
