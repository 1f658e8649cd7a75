/**
 * Architectures as wirings: which value feeds which operator. This file is the only place that knows what
 * distinguishes top-2 from ScMoE Pos-2 from DGMoE; everything after it sees a DAG.
 * Values: T tokens per rank and micro-batch, D width, N experts; sizes in bytes are upper bounds.
 */
import type { Differentiated } from "../kernel/differentiate.js";
import { ProgramBuilder } from "../program/builder.js";
import { type BackwardOptions, differentiateProgram } from "../program/differentiate.js";
import type * as K from "../program/kinds.js";
import type { Program } from "../program/program.js";
import { type ModelConfig, isMoeBlock } from "./config.js";
import { type KernelSet, kernelSet } from "./kernels/index.js";
import * as spans from "./spans.js";

export interface ProgramOptions {
  readonly batch: number;
  readonly sequence: number;
  readonly epSize: number;
  /** Chunks of the token rows in dispatch → expert → combine (pipelined policies); 1 = whole. */
  readonly chunks?: number;
  readonly mode: "train" | "loss" | "logits";
  readonly recompute?: boolean;
  readonly splitWeightGradients?: boolean;
  readonly wire?: "f32" | "bf16";
}

/** The program and the ids of the values that the caller feeds and reads. */
export interface ModelProgram {
  readonly program: Program;
  readonly config: ModelConfig;
  readonly options: ProgramOptions;
  /** Fed before each run: token ids [T]; labels [T]; gradient of each loss [T]; gate noise [T, N] per routing. */
  readonly tokens: number;
  readonly labels?: number;
  readonly seed?: number;
  readonly noise: readonly number[];
  /** Losses [T] or logits [T, V]. */
  readonly output: number;
  readonly routings: readonly K.RouteData[];
  readonly statistics?: number;
}

export function buildProgram(config: ModelConfig, options: ProgramOptions): ModelProgram {
  const wiring = new Wiring(config, options);
  return wiring.build();
}

/** The residual stream of one block at the three places a shortcut may leave from. */
interface BlockStreams {
  readonly input: number;
  readonly afterAttention: number;
  output: number;
}

class Wiring {
  readonly #b = new ProgramBuilder();
  readonly #kernels: KernelSet;
  readonly #tokensPerRank: number;
  readonly #routings: K.RouteData[] = [];
  readonly #noise: number[] = [];
  readonly #numRoutings: number;

  constructor(
    readonly config: ModelConfig,
    readonly options: ProgramOptions,
  ) {
    this.#kernels = kernelSet(config, {
      sequence: options.sequence,
      training: options.mode === "train",
      head: options.mode === "logits" ? "logits" : "losses",
      recompute: options.recompute ?? false,
    });
    this.#tokensPerRank = options.batch * options.sequence;
    const numMoe = Array.from({ length: config.num_hidden_layers }, (_, l) => l).filter((l) =>
      isMoeBlock(config, l),
    );
    this.#numRoutings = numMoe.length * (config.architecture.routed === "dual" ? 2 : 1);
  }

  build(): ModelProgram {
    const { config, options } = this;
    const T = this.#tokensPerRank;
    const tokens = this.#b.value("tokens", T * 4);
    const labels = options.mode === "logits" ? undefined : this.#b.value("labels", T * 4);
    const seed = options.mode === "train" ? this.#b.value("seed", T * 4) : undefined;
    let x = this.#stream("embedding");
    this.#b.add({
      name: "embed",
      kind: "embed",
      reads: [tokens],
      writes: [x],
      cost: "embed",
      data: {
        tokens,
        output: x,
        embedding: "model.embed_tokens.weight",
        positions: config.style === "gpt" ? "model.embed_positions.weight" : undefined,
      } satisfies K.EmbedData,
    });

    const blocks: BlockStreams[] = [];
    for (let layer = 0; layer < config.num_hidden_layers; layer++) {
      const before = blocks.at(-1) ?? { input: x, afterAttention: x, output: x };
      const pending = isMoeBlock(config, layer)
        ? this.#startShortcut(layer, before, blocks.length === 0)
        : undefined;
      const streams: BlockStreams = { input: x, afterAttention: this.#attention(layer, x), output: x };
      x = isMoeBlock(config, layer)
        ? this.#moe(layer, streams.afterAttention, pending)
        : this.#mlp(layer, streams.afterAttention);
      streams.output = x;
      blocks.push(streams);
    }

    const output = this.#b.value(
      options.mode === "logits" ? "logits" : "losses",
      T * 4 * (options.mode === "logits" ? config.vocab_size : 1),
    );
    this.#kernel("head", "head", this.#kernels.head, {
      inputs: { x, ...(labels === undefined ? {} : { labels }) },
      outputs: { [options.mode === "logits" ? "logits" : "losses"]: output },
      parameters: spans.headSpans(config),
    });
    const statistics = this.#statistics();
    let program = this.#b.build(`${config.arch} ${options.mode}`);
    if (options.mode === "train") {
      const backward: BackwardOptions = {
        splitWeightGradients: options.splitWeightGradients,
        seeds: new Map([[output, seed as number]]),
        stopAt: new Set([tokens, ...(labels === undefined ? [] : [labels]), ...this.#noise]),
      };
      program = differentiateProgram(program, backward);
    }
    const routings = this.#routings;
    return {
      program,
      config,
      options,
      tokens,
      labels,
      seed,
      noise: this.#noise,
      output,
      routings,
      statistics,
    };
  }

  /** Shortcut architectures start their routed branch as soon as its input exists: one block early. */
  #startShortcut(layer: number, before: BlockStreams, isFirstBlock: boolean): RoutedBranch | undefined {
    const { routed, position, firstPosition } = this.config.architecture;
    if (routed !== "shortcut" && routed !== "dual") return undefined;
    const isFirstMoe = this.#routings.length === 0;
    const place = (isFirstMoe ? firstPosition : undefined) ?? position ?? 1;
    const source =
      isFirstBlock || place === 1 ? before.output : place === 2 ? before.afterAttention : before.input;
    return this.#routedBranch(layer, source, {
      norm: routed === "dual" ? "current" : "shortcut",
      tag: routed === "dual" ? ".previous" : "",
    });
  }

  #moe(layer: number, x: number, pending: RoutedBranch | undefined): number {
    const { routed, sharedExpert } = this.config.architecture;
    const current =
      routed === "current"
        ? this.#routedBranch(layer, x, { norm: "current", tag: "" })
        : routed === "dual"
          ? this.#routedBranch(layer, x, { norm: "current", tag: "", avoid: pending?.routing })
          : undefined;
    let base = x;
    let scale: number | undefined;
    if (sharedExpert) {
      base = this.#stream(`L${layer}.shared`);
      const outputs: Record<string, number> = { y: base };
      if (this.config.coefficient_gate === "cg2") {
        scale = this.#b.value(`L${layer}.coefficient`, this.#tokensPerRank * 4);
        outputs.scale = scale;
      }
      this.#kernel(`L${layer}.shared`, "shared", this.#kernels.shared, {
        layer,
        inputs: { x },
        outputs,
        parameters: spans.sharedExpertSpans(this.config, layer),
      });
    }
    for (const branch of [pending, current]) {
      if (branch === undefined) continue;
      base = this.#decode(layer, branch, base, scale);
    }
    return base;
  }

  /** gate → route → encode → dispatch → expert → combine, rows split into chunks. */
  #routedBranch(
    layer: number,
    source: number,
    how: { norm: "current" | "shortcut"; tag: string; avoid?: number },
  ): RoutedBranch {
    const { config, options } = this;
    const T = this.#tokensPerRank;
    const [D, N] = [config.hidden_size, config.num_experts];
    const name = (part: string) => `L${layer}${how.tag}.${part}`;
    const noisy = config.gate_noise && options.mode === "train";
    const [xn, logits] = [this.#stream(name("xn")), this.#b.value(name("logits"), T * N * 4)];
    const inputs: Record<string, number> = { x: source };
    if (noisy) {
      inputs.noise = this.#b.value(name("noise"), T * N * 4);
      this.#noise.push(inputs.noise);
    }
    this.#kernel(name("gate"), "gate", this.#kernels.gate, {
      layer,
      inputs,
      outputs: { xn, logits },
      parameters: spans.gateSpans(config, layer, how.norm, noisy),
    });

    const shape: K.MoeShape = {
      layer,
      numExperts: N,
      topK: config.topK,
      capacityFactor: config.capacity_factor,
      renormalize: config.topK > 1 && config.norm_topk_prob,
      selectionBias: spans.selectionBias(config, layer),
      width: D,
      epSize: options.epSize,
      wire: options.wire ?? "f32",
    };
    const routing = this.#b.value(name("routing"), T * shape.topK * 8);
    const weights = this.#b.value(name("weights"), T * shape.topK * 4);
    const route: K.RouteData = {
      shape,
      logits,
      avoid: how.avoid,
      routing,
      weights,
      lossShare: 1 / this.#numRoutings,
      index: this.#routings.length,
    };
    this.#routings.push(route);
    this.#b.add({
      name: name("route"),
      kind: "route",
      layer,
      reads: how.avoid === undefined ? [logits] : [logits, how.avoid],
      writes: [routing, weights],
      cost: "route",
      data: route,
    });
    const chunks = options.chunks ?? 1;
    const rows = Array.from({ length: chunks }, (_, chunk) =>
      this.#transferChunk(layer, { name, shape, routing, xn, chunk, chunks }),
    );
    return { layer, tag: how.tag, shape, routing, weights, rows };
  }

  #transferChunk(
    layer: number,
    c: {
      name: (part: string) => string;
      shape: K.MoeShape;
      routing: number;
      xn: number;
      chunk: number;
      chunks: number;
    },
  ): number {
    const { shape, routing, chunk, chunks } = c;
    const rowBytes = shape.width * (shape.wire === "bf16" ? 2 : 4);
    const maxBytes = Math.ceil(this.#tokensPerRank / chunks) * shape.topK * rowBytes;
    const label = (part: string) => c.name(chunks === 1 ? part : `${part}.${chunk}`);
    const value = (part: string) => this.#b.value(label(part), maxBytes);
    const common = { layer, chunk: chunks === 1 ? undefined : chunk };
    const facts: K.ChunkData = { shape, chunk, chunks };

    const send = value("send");
    this.#b.add({
      name: label("encode"),
      kind: "encode",
      ...common,
      reads: [c.xn, routing],
      writes: [send],
      cost: "encode",
      data: { ...facts, input: c.xn, routing, send } satisfies K.EncodeData,
    });
    const arrived = value("arrived");
    const counts = this.#b.value(label("counts"), shape.numExperts * 4);
    this.#b.add({
      name: label("dispatch"),
      kind: "transfer",
      stream: "network",
      ...common,
      reads: [send, routing],
      writes: [arrived, counts],
      cost: "dispatch",
      data: {
        ...facts,
        direction: "to-experts",
        bringsCounts: true,
        routing,
        counts,
        input: send,
        output: arrived,
      } satisfies K.TransferData,
    });
    const results = value("results");
    const saved = this.#b.value(label("saved"), maxBytes * 4);
    this.#b.add({
      name: label("expert"),
      kind: "expert",
      ...common,
      reads: [arrived, counts],
      writes: [results, saved],
      cost: "expert",
      data: {
        ...facts,
        kernel: this.#kernels.expert,
        parameters: spans.expertSpans(this.config, layer),
        arrived,
        counts,
        output: results,
        saved,
      } satisfies K.ExpertData,
    });
    const back = value("back");
    this.#b.add({
      name: label("combine"),
      kind: "transfer",
      stream: "network",
      ...common,
      reads: [results, routing, counts],
      writes: [back],
      cost: "combine",
      data: {
        ...facts,
        direction: "to-tokens",
        bringsCounts: false,
        routing,
        counts,
        input: results,
        output: back,
      } satisfies K.TransferData,
    });
    return back;
  }

  #decode(layer: number, branch: RoutedBranch, base: number, scale: number | undefined): number {
    const output = this.#stream(`L${layer}${branch.tag}.out`);
    const { shape, routing, weights, rows } = branch;
    const reads = [routing, weights, ...rows, base];
    if (scale !== undefined) reads.push(scale);
    this.#b.add({
      name: `L${layer}${branch.tag}.decode`,
      kind: "decode",
      layer,
      reads,
      writes: [output],
      cost: "decode",
      data: {
        shape,
        chunks: rows.length,
        routing,
        weights,
        rows,
        base,
        scale,
        output,
      } satisfies K.DecodeData,
    });
    return output;
  }

  #attention(layer: number, x: number): number {
    const y = this.#stream(`L${layer}.attention`);
    this.#kernel(`L${layer}.attention`, "attention", this.#kernels.attention, {
      layer,
      inputs: { x },
      outputs: { y },
      parameters: spans.attentionSpans(this.config, layer),
    });
    return y;
  }

  #mlp(layer: number, x: number): number {
    const y = this.#stream(`L${layer}.mlp`);
    this.#kernel(`L${layer}.mlp`, "mlp", this.#kernels.mlp, {
      layer,
      inputs: { x },
      outputs: { y },
      parameters: spans.mlpSpans(this.config, layer),
    });
    return y;
  }

  /** Balance statistics over all ranks, when the auxiliary loss or the selection bias needs them. */
  #statistics(): number | undefined {
    const { balance, balance_statistics } = this.config;
    const wanted = balance === "bias" || (balance === "aux" && balance_statistics === "global");
    if (this.options.mode !== "train" || !wanted || this.#routings.length === 0) return undefined;
    const output = this.#b.value("statistics", this.#routings.length * this.config.num_experts * 8);
    const routings = this.#routings.map((route) => route.routing);
    this.#b.add({
      name: "statistics",
      kind: "statistics",
      stream: "network",
      reads: routings,
      writes: [output],
      cost: "statistics",
      data: { routings, output } satisfies K.StatisticsData,
    });
    return output;
  }

  #stream(name: string): number {
    return this.#b.value(name, this.#tokensPerRank * this.config.hidden_size * 4);
  }

  #kernel(
    name: string,
    cost: string,
    kernel: Differentiated,
    bound: Omit<K.KernelData, "kernel"> & { layer?: number },
  ): void {
    const outputs = { ...bound.outputs };
    for (const saved of kernel.saved) outputs[saved] = this.#b.value(`${name}.${saved}`, 0);
    this.#b.add({
      name,
      kind: "kernel",
      layer: bound.layer,
      reads: Object.values(bound.inputs),
      writes: Object.values(outputs),
      cost,
      data: { kernel, inputs: bound.inputs, outputs, parameters: bound.parameters } satisfies K.KernelData,
    });
  }
}

interface RoutedBranch {
  readonly layer: number;
  readonly tag: string;
  readonly shape: K.MoeShape;
  readonly routing: number;
  readonly weights: number;
  /** Combined rows, one value per chunk. */
  readonly rows: readonly number[];
}
