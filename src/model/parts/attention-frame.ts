/**
 * What every kind of causal self-attention has around its queries, keys and values: norm, residual, gate, projection back, and
 * the forms a kernel has. T = B·S tokens, D width, H query heads, dk and dv widths of a key and a value.
 */
import { assert } from "../../core/errors.js";
import * as k from "../../kernel/build.js";
import type { Dim, Expr, Kernel } from "../../kernel/kernel.js";
import { type Seen, attendAnywhere, attendCached, attendTiled } from "./attend.js";
import { type NormShape, norm, normParameters, normSpans } from "./norm.js";
import { type ParameterInfo, type Part, type Spans, linears } from "./part.js";
import { type Residual, withResidual } from "./residual.js";

export interface AttentionFrame {
  readonly width: number;
  readonly heads: number;
  readonly norm: NormShape;
  /** Of the projection back. */
  readonly outBias: boolean;
  /** The heads' results times the sigmoid of a projection of what attention reads. */
  readonly gate?: boolean;
  /** A query sees the `window` most recent keys, itself included; default all up to itself. */
  readonly window?: number | undefined;
}

/** What rows see beside the rows of their sequence up to themselves, and what they do not. */
export interface AttentionReach {
  /** Keys and values of each sequence's earlier rows are in a cache, which those of the rows join. */
  readonly cache?: boolean;
  /** No row sees another document. */
  readonly documents?: boolean;
}

/** Where a block's attention and its norm are stored. */
export interface AttentionNames {
  readonly attention: string;
  readonly norm: string;
}

/** What an attention kernel is built for: the rows' length, what they see, and whether it adds what it computes to what it reads. */
export type AttentionForm = [sequence: Dim, reach?: AttentionReach, residual?: Residual];

/** A block's attention. */
export type AttentionPart = Part<AttentionForm>;

/** The rows a kernel is built for. */
export interface AttentionRows {
  /**
   * The number of rows S where they are 0, 1, …, S − 1; their positions where they may be any, i32 [S], or [B, 1, S] with a cache: each
   * sequence has its own.
   */
  readonly at: number | Expr;
  readonly isCached: boolean;
  /** [T, heads·width] → [B, S, heads, width] */
  split(x: Expr, heads: number): Expr;
  /** What tells B and S where they are symbols. */
  readonly sizes: readonly Expr[];
}

/** Queries [B, H, S, dk], keys [B, G, S, dk], values [B, G, S, dv]. */
export interface Projected {
  readonly q: Expr;
  readonly key: Expr;
  /** A number: the values are so many first elements of the keys. */
  readonly value: Expr | number;
  readonly scale: number;
  /** What becomes of the heads' results [B, H, S, dv]. */
  readonly after?: (context: Expr) => Expr;
}

/** @param u what attention reads, [T, D] */
export type Projection = (u: Expr, rows: AttentionRows) => Projected;

/** What a kind of attention has of its own. */
export interface AttentionKind {
  readonly parameters: readonly ParameterInfo[];
  readonly spans: Spans;
  readonly project: Projection;
  /** Of a head's result. */
  readonly valueWidth: number;
}

export function framedAttention(
  frame: AttentionFrame,
  { attention, norm: normName }: AttentionNames,
  kind: AttentionKind,
): AttentionPart {
  const results = frame.heads * kind.valueWidth;
  const gate = frame.gate ? linears(attention, [["gate_proj", results, frame.width]], { bias: false }) : [];
  return {
    class: "attention",
    shape: frame,
    parameters: [
      ...normParameters(normName, frame.norm),
      ...kind.parameters,
      ...gate,
      ...linears(attention, [["o_proj", frame.width, results]], { bias: frame.outBias }),
    ],
    spans: {
      ...normSpans(normName, frame.norm),
      ...kind.spans,
      ...(frame.gate ? { gate_w: [`${attention}.gate_proj.weight`] } : {}),
      o_w: [`${attention}.o_proj.weight`],
      ...(frame.outBias ? { o_b: [`${attention}.o_proj.bias`] } : {}),
    },
    kernel: (...form) => framedKernel(frame, kind.project, ...form),
  };
}

/**
 * With a number as `sequence` and no cache: x [T, D] → y, masks and rotary tables are constants of positions 0, 1, …, S − 1;
 * with `documents` it reads `starts` [B, S] too, where in its sequence each row's document begins. (Rotary scores depend on
 * distances only, so positions need not restart there.) Otherwise one kernel for any length: it reads the rows' `positions` [S]
 * too, the same for all B sequences.
 *
 * With a cache it reads and writes `cache_k` and `cache_v`, [B, G, C, w]: keys (rotated) and values of each sequence in as many first
 * places as it has rows; of values that are part of the keys there is no `cache_v`. Each sequence has `positions` of its own, [B, 1, S],
 * its `last` one, [B], and the longest has `total` rows, [1], its new ones included.
 */
export function framedKernel(
  frame: AttentionFrame,
  project: Projection,
  ...[sequence, reach = {}, residual]: AttentionForm
): Kernel {
  const { width: D, heads: H } = frame;
  const { cache: isCached = false, documents = false } = reach;
  const isFixed = typeof sequence === "number" && !isCached;
  assert(isFixed || !documents, "attention that tells documents apart has a fixed length and no cache");
  const x = k.input("x", ["T", D]);
  const positions = k.input("positions", isCached ? ["B", 1, sequence] : [sequence], "i32");
  const sizes = isFixed ? [] : [positions];
  const u = norm(frame.norm, x);
  const projected = project(u, {
    at: isFixed ? sequence : positions,
    isCached,
    split: (from, heads) =>
      k.reshape(from, ["B", sequence, heads, (from.dims[1] as number) / heads], ...sizes),
    sizes,
  });
  const { q, scale, after = (results: Expr) => results } = projected;
  const scoring = { scale, window: frame.window };
  const seen = (): Omit<Seen, "positions"> => withValues(projected);
  const starts = documents ? k.input("starts", ["B", sequence], "i32") : undefined;
  const attended = isCached
    ? attendCached(projected, scoring, positions)
    : {
        context: isFixed
          ? attendTiled(q, seen(), { ...scoring, starts })
          : attendAnywhere(q, positions, { ...seen(), positions }, scoring),
      };
  const results = after(attended.context);
  const merged = k.reshape(
    k.transpose(results, [0, 2, 1, 3]),
    ["T", H * (results.dims[3] as number)],
    ...sizes,
  );
  const width = merged.dims[1] as number;
  const gated = frame.gate
    ? k.mul(merged, k.sigmoid(k.linear(u, k.parameter("gate_w", [width, D]))))
    : merged;
  const out = k.linear(
    gated,
    k.parameter("o_w", [D, width]),
    frame.outBias ? k.parameter("o_b", [D]) : undefined,
  );
  const y = withResidual(x, out, residual);
  if (!("keys" in attended)) return k.kernel("attention", { y });
  const outputs = { y, cache_k: attended.keys, cache_v: attended.values };
  return k.kernel("attention", outputs, {
    cache_k: "cache_k",
    cache_v: typeof projected.value === "number" ? "cache_k" : "cache_v",
  });
}

function withValues({ key, value }: Pick<Projected, "key" | "value">): Omit<Seen, "positions"> {
  return { key, value: typeof value === "number" ? k.slice(key, 3, 0, value) : value };
}
