/**
 * A language model as a program: embedding, blocks, head. Values: T tokens per rank and micro-batch, D width,
 * N experts; sizes in bytes are upper bounds.
 */
import type { Symbols } from "../kernel/symbols.js";
import type { OperatorOf } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { ModelConfig } from "./config.js";
import type { RoutingRule } from "./routed-branch.js";
import type { Distillation, HeadOutput } from "./parts/head.js";
import { type ModelStructure, structureOf } from "./structure.js";
import { type WireOptions, Wires } from "./wires.js";
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
  /** Fed where attention is of any length: position of each row of a sequence [S]. */
  readonly positions?: number;
  /** Fed where documents are told apart: where in its sequence each row's document begins [B, S]. */
  readonly starts?: number;
  /** Fed, where there is gate noise: standard normal [T, N] per routing. */
  readonly noise: readonly number[];
  /** Losses [T] or logits [T, V]. */
  readonly output: number;
  /** Of a student: what it is fed, the teacher's logits [T, V], and what else its head gives, divergences from them [T]. */
  readonly distilled?: { readonly teacher: number; readonly divergences: number };
  readonly routings: readonly OperatorOf<"route">[];
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
  const positions = options.anyLength ? builder.value("positions", options.sequence * 4) : undefined;
  const starts = options.documents ? builder.value("starts", T * 4) : undefined;
  const embedded = addEmbedding(wires, structure, tokens, starts);

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
    positions,
    starts,
  }));
  const x = WIRINGS[config.architecture.wiring](wires, blocks, embedded);
  const student =
    labels === undefined || how.distill === undefined
      ? undefined
      : addStudentHead(wires, structure, { x, labels, distill: how.distill });
  const output = student?.losses ?? addHead(wires, structure, { x, labels });
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
    noise: wires.noise,
    output,
    distilled: student,
    routings,
  };
}

/**
 * Embeds tokens, [T].
 * @param starts where documents are told apart: where in its sequence each row's document begins, [B, S]
 * @returns the stream, [T, D]
 */
export function addEmbedding(
  wires: Wires,
  { embedding }: ModelStructure,
  tokens: number,
  starts?: number,
): number {
  const output = wires.rows("embedding");
  const { table, positions, padding } = embedding;
  const learned =
    positions === undefined ? undefined : { table: positions, period: wires.options.sequence, starts };
  wires.builder.add({
    name: "embed",
    kind: "embed",
    reads: learned?.starts === undefined ? [tokens] : [tokens, learned.starts],
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
 * @returns losses [T] where there are labels, logits [T, V] otherwise
 */
export function addHead(
  wires: Wires,
  { head }: ModelStructure,
  { x, labels }: { readonly x: number; readonly labels?: number | undefined },
): number {
  const [name, width] = labels === undefined ? (["logits", head.width] as const) : (["losses", 1] as const);
  const output = wires.builder.value(name, wires.tokens * 4 * width);
  wires.part("head", head, [name], {
    inputs: labels === undefined ? { x } : { x, labels },
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
