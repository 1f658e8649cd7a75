/**
 * Architectures as wirings: which value feeds which operator. This file is the only place that knows what
 * distinguishes top-2 from ScMoE Pos-2 from DGMoE; everything after it sees a DAG.
 * Values: T tokens per rank and micro-batch, D width, N experts; sizes in bytes are upper bounds.
 */
import { type BackwardOptions, differentiateProgram } from "../program/differentiate.js";
import type * as K from "../program/kinds.js";
import type { Program } from "../program/program.js";
import { type ModelConfig, isMoeBlock } from "./config.js";
import { type RoutedBranch, decodeBranch, routedBranch } from "./routed-branch.js";
import * as spans from "./spans.js";
import { type ProgramOptions, Wires } from "./wires.js";

export type { ProgramOptions } from "./wires.js";

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

/** Wires a model's operators: its forward pass and, for training, the derived backward half. */
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
  readonly #w: Wires;

  constructor(
    readonly config: ModelConfig,
    readonly options: ProgramOptions,
  ) {
    this.#w = new Wires(config, options);
  }

  build(): ModelProgram {
    const { config, options } = this;
    const T = this.#w.tokensPerRank;
    const tokens = this.#w.builder.value("tokens", T * 4);
    const labels = options.mode === "logits" ? undefined : this.#w.builder.value("labels", T * 4);
    const seed = options.mode === "train" ? this.#w.builder.value("seed", T * 4) : undefined;
    let x = this.#w.stream("embedding");
    this.#w.builder.add({
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

    const output = this.#w.builder.value(
      options.mode === "logits" ? "logits" : "losses",
      T * 4 * (options.mode === "logits" ? config.vocab_size : 1),
    );
    this.#w.kernel("head", "head", this.#w.kernels.head, {
      inputs: { x, ...(labels === undefined ? {} : { labels }) },
      outputs: { [options.mode === "logits" ? "logits" : "losses"]: output },
      parameters: spans.headSpans(config),
    });
    const statistics = this.#statistics();
    let program = this.#w.builder.build(`${config.arch} ${options.mode}`);
    if (options.mode === "train") {
      const backward: BackwardOptions = {
        splitWeightGradients: options.splitWeightGradients,
        seeds: new Map([[output, seed as number]]),
        stopAt: new Set([tokens, ...(labels === undefined ? [] : [labels]), ...this.#w.noise]),
      };
      program = differentiateProgram(program, backward);
    }
    const routings = this.#w.routings;
    return {
      program,
      config,
      options,
      tokens,
      labels,
      seed,
      noise: this.#w.noise,
      output,
      routings,
      statistics,
    };
  }

  /** Shortcut architectures start their routed branch as soon as its input exists: one block early. */
  #startShortcut(layer: number, before: BlockStreams, isFirstBlock: boolean): RoutedBranch | undefined {
    const { routed, position, firstPosition } = this.config.architecture;
    if (routed !== "shortcut" && routed !== "dual") return undefined;
    const isFirstMoe = this.#w.routings.length === 0;
    const place = (isFirstMoe ? firstPosition : undefined) ?? position ?? 1;
    const source =
      isFirstBlock || place === 1 ? before.output : place === 2 ? before.afterAttention : before.input;
    return routedBranch(this.#w, layer, source, {
      norm: routed === "dual" ? "current" : "shortcut",
      tag: routed === "dual" ? ".previous" : "",
    });
  }

  #moe(layer: number, x: number, pending: RoutedBranch | undefined): number {
    const { routed, sharedExpert } = this.config.architecture;
    const current =
      routed === "current"
        ? routedBranch(this.#w, layer, x, { norm: "current", tag: "" })
        : routed === "dual"
          ? routedBranch(this.#w, layer, x, { norm: "current", tag: "", avoid: pending?.routing })
          : undefined;
    let base = x;
    let scale: number | undefined;
    if (sharedExpert) {
      base = this.#w.stream(`L${layer}.shared`);
      const outputs: Record<string, number> = { y: base };
      if (this.config.coefficient_gate === "cg2") {
        scale = this.#w.builder.value(`L${layer}.coefficient`, this.#w.tokensPerRank * 4);
        outputs.scale = scale;
      }
      this.#w.kernel(`L${layer}.shared`, "shared", this.#w.kernels.shared, {
        layer,
        inputs: { x },
        outputs,
        parameters: spans.sharedExpertSpans(this.config, layer),
      });
    }
    for (const branch of [pending, current]) {
      if (branch === undefined) continue;
      base = decodeBranch(this.#w, layer, branch, base, scale);
    }
    return base;
  }

  #attention(layer: number, x: number): number {
    const y = this.#w.stream(`L${layer}.attention`);
    this.#w.kernel(`L${layer}.attention`, "attention", this.#w.kernels.attention, {
      layer,
      inputs: { x },
      outputs: { y },
      parameters: spans.attentionSpans(this.config, layer),
    });
    return y;
  }

  #mlp(layer: number, x: number): number {
    const y = this.#w.stream(`L${layer}.mlp`);
    this.#w.kernel(`L${layer}.mlp`, "mlp", this.#w.kernels.mlp, {
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
    if (this.options.mode !== "train" || !wanted || this.#w.routings.length === 0) return undefined;
    const output = this.#w.builder.value("statistics", this.#w.routings.length * this.config.num_experts * 8);
    const routings = this.#w.routings.map((route) => route.routing);
    this.#w.builder.add({
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
}
