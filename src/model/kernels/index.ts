import { type Differentiated, differentiate } from "../../kernel/differentiate.js";
import type { Dim, Kernel } from "../../kernel/kernel.js";
import type { ModelConfig } from "../config.js";
import { modelShapes } from "../shapes.js";
import { attentionKernel } from "./attention.js";
import { gateKernel } from "./gate.js";
import { headKernel } from "./head.js";
import { expertKernel, mlpKernel, sharedExpertKernel } from "./mlp.js";

export { attentionKernel, expertKernel, gateKernel, headKernel, mlpKernel, sharedExpertKernel };

/** Every kernel of a model with its derivative, built once and shared by all layers. */
export interface KernelSet {
  readonly attention: Differentiated;
  readonly mlp: Differentiated;
  readonly gate: Differentiated;
  readonly shared: Differentiated;
  readonly expert: Differentiated;
  readonly head: Differentiated;
}

export interface KernelOptions {
  /** A symbol: attention of any length, which reads the rows' positions. */
  readonly sequence: Dim;
  readonly training: boolean;
  readonly head: "logits" | "losses";
  /** Keep no activations inside a block; backward computes them again from the block's input. */
  readonly recompute: boolean;
}

export function kernelSet(config: ModelConfig, options: KernelOptions): KernelSet {
  const derive = (kernel: Kernel): Differentiated =>
    options.training
      ? differentiate(kernel, { save: options.recompute ? "none" : "heavy" })
      : { forward: kernel, backward: kernel, saved: [] };
  const shapes = modelShapes(config);
  return {
    attention: derive(attentionKernel(shapes.attention, options.sequence)),
    mlp: derive(mlpKernel(shapes.mlp, shapes.norm)),
    gate: derive(gateKernel({ ...shapes.gate, noise: shapes.gate.noise && options.training })),
    shared: derive(sharedExpertKernel(shapes.shared)),
    expert: derive(expertKernel(shapes.expert)),
    head: derive(headKernel(shapes.head, options.head)),
  };
}
