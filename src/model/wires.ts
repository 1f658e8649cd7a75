/** The program of a model under construction: its builder, its kernels, and what every part of the wiring adds the same way. */
import type { Differentiated } from "../kernel/differentiate.js";
import { ProgramBuilder } from "../program/builder.js";
import type * as K from "../program/kinds.js";
import { type ModelConfig, isMoeBlock } from "./config.js";
import { type KernelSet, kernelSet } from "./kernels/index.js";

/** The sizes and the purpose that a program is built for. */
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

export class Wires {
  readonly builder = new ProgramBuilder();
  readonly kernels: KernelSet;
  readonly tokensPerRank: number;
  readonly routings: K.RouteData[] = [];
  readonly noise: number[] = [];
  readonly numRoutings: number;

  constructor(
    readonly config: ModelConfig,
    readonly options: ProgramOptions,
  ) {
    this.kernels = kernelSet(config, {
      sequence: options.sequence,
      training: options.mode === "train",
      head: options.mode === "logits" ? "logits" : "losses",
      recompute: options.recompute ?? false,
    });
    this.tokensPerRank = options.batch * options.sequence;
    const numMoe = Array.from({ length: config.num_hidden_layers }, (_, l) => l).filter((l) =>
      isMoeBlock(config, l),
    );
    this.numRoutings = numMoe.length * (config.architecture.routed === "dual" ? 2 : 1);
  }

  /** A value of [T, D] activations. */
  stream(name: string): number {
    return this.builder.value(name, this.tokensPerRank * this.config.hidden_size * 4);
  }

  /** An operator that runs a kernel; saved activations become values of their own. */
  kernel(
    name: string,
    cost: string,
    kernel: Differentiated,
    bound: Omit<K.KernelData, "kernel"> & { layer?: number },
  ): void {
    const outputs = { ...bound.outputs };
    for (const saved of kernel.saved) outputs[saved] = this.builder.value(`${name}.${saved}`, 0);
    this.builder.add({
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
