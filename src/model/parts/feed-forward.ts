/** Feed-forward parts: dense MLP and routed expert. R rows, D width, F inner width. */
import * as k from "../../kernel/build.js";
import type { Expr } from "../../kernel/kernel.js";
import { type NormShape, norm, normParameters, normSpans } from "./norm.js";
import { type ParameterInfo, type Part, type Spans, linears } from "./part.js";
import { type Residual, withResidual } from "./residual.js";

export interface FeedForwardShape {
  readonly width: number;
  readonly inner: number;
  readonly kind: "gelu" | "swiglu";
  readonly bias: boolean;
}

/** gelu: W₂·gelu(W₁x + b₁) + b₂. swiglu: W_down·(silu(W_gate x) ⊙ W_up x), gate and up as one matrix [2F, D]. */
export function feedForward({ width: D, inner: F, kind, bias }: FeedForwardShape, x: Expr): Expr {
  const project = (from: Expr, name: string, out: number, width: number): Expr =>
    k.linear(
      from,
      k.parameter(`${name}_w`, [out, width]),
      bias ? k.parameter(`${name}_b`, [out]) : undefined,
    );
  if (kind === "gelu") return project(k.gelu(project(x, "in", F, D)), "out", D, F);
  const both = project(x, "in", 2 * F, D);
  return project(k.mul(k.silu(k.slice(both, 1, 0, F)), k.slice(both, 1, F, 2 * F)), "out", D, F);
}

function inward({ kind }: FeedForwardShape): readonly string[] {
  return kind === "gelu" ? ["up_proj"] : ["gate_proj", "up_proj"];
}

/** @param name of the MLP; of an expert with "{e}" where its index goes */
export function feedForwardParameters(
  name: string,
  shape: FeedForwardShape,
  expert?: number,
): ParameterInfo[] {
  const { width: D, inner: F, bias } = shape;
  return [
    ...linears(
      name,
      inward(shape).map((part) => [part, F, D] as const),
      { bias, expert },
    ),
    ...linears(name, [["down_proj", D, F]], { bias, expert, mayStartBucket: true }),
  ];
}

export function feedForwardSpans(name: string, shape: FeedForwardShape): Spans {
  const tensors = (parts: readonly string[], suffix: string) =>
    parts.map((part) => `${name}.${part}.${suffix}`);
  return {
    in_w: tensors(inward(shape), "weight"),
    out_w: tensors(["down_proj"], "weight"),
    ...(shape.bias ? { in_b: tensors(inward(shape), "bias"), out_b: tensors(["down_proj"], "bias") } : {}),
  };
}

/** y = x + MLP(LN(x)), or the summand alone. */
export function mlp(
  shape: FeedForwardShape & { readonly norm: NormShape },
  names: { readonly mlp: string; readonly norm: string },
): Part<[residual?: Residual]> {
  return {
    class: "mlp",
    shape,
    parameters: [...normParameters(names.norm, shape.norm), ...feedForwardParameters(names.mlp, shape)],
    spans: { ...normSpans(names.norm, shape.norm), ...feedForwardSpans(names.mlp, shape) },
    kernel(residual) {
      const x = k.input("x", ["T", shape.width]);
      const summand = feedForward(shape, norm(shape.norm, x));
      return k.kernel("mlp", { y: withResidual(x, summand, residual) });
    },
  };
}

/** All routed experts of a layer. The kernel is one expert on the rows sent to it: y = E(x), no norm, no residual. */
export function experts(shape: FeedForwardShape, name: string, numExperts: number): Part {
  return {
    class: "expert",
    shape,
    parameters: Array.from({ length: numExperts }, (_, e) => feedForwardParameters(name, shape, e)).flat(),
    spans: feedForwardSpans(name, shape),
    kernel: () => k.kernel("expert", { y: feedForward(shape, k.input("x", ["R", shape.width])) }),
  };
}
