/**
 * Derives a kernel's backward half: one reverse walk over the expression with the rules of `derivatives.ts`, then a
 * partition into what forward saves and what backward computes again.
 */
import { assert } from "../core/errors.js";
import * as k from "./build.js";
import { DERIVATIVES } from "./derivatives.js";
import { keptExpressions } from "./kept.js";
import type { Dim, Expr, Kernel } from "./kernel.js";
import { nodeKey } from "./key.js";
import { SAVED_FOR_BACKWARD } from "./ops.js";
import { rewriteKernel } from "./rewrite.js";
import { topological } from "./topological.js";

export interface Differentiated {
  /** The original outputs, and the activations kept for backward as outputs "s_0", "s_1", … */
  readonly forward: Kernel;
  /**
   * Inputs: originals and saved activations it needs, `d_<output>` per differentiable output, and `g_<parameter>`
   * (accumulated gradients, overwritten). Outputs: `d_<input>` and `g_<parameter>`.
   */
  readonly backward: Kernel;
  readonly saved: readonly string[];
}

export interface DifferentiateOptions {
  /** "heavy": keep the results of expensive ops; "none": keep nothing and compute all again from the inputs. */
  readonly save?: "heavy" | "none";
}

export function differentiate(source: Kernel, options: DifferentiateOptions = {}): Differentiated {
  const gradients = gradientsOf(source);
  const outputs: Record<string, Expr> = {};
  const aliases: Record<string, string> = {};
  for (const { name, role, expr } of source.inputs) {
    const contributions = gradients.get(expr) ?? [];
    if (contributions.length === 0) continue;
    if (role === "parameter") {
      outputs[`g_${name}`] = accumulate(k.parameter(`g_${name}`, expr.dims as number[]), contributions);
      aliases[`g_${name}`] = `g_${name}`;
    } else outputs[`d_${name}`] = sum(contributions);
  }

  const keepsNone = options.save === "none";
  const partition = new Partition(keepsNone ? new Set() : keptExpressions(source, Object.values(outputs)));
  const backwardOutputs = Object.fromEntries(
    Object.entries(outputs).map(([name, expr]) => [name, partition.rebuild(expr)]),
  );
  const saved = Object.fromEntries([...partition.saved].map(([expr, name]) => [name, expr]));
  const forwardOutputs = Object.fromEntries(source.outputs.map((o) => [o.name, o.expr]));
  return {
    forward: k.kernel(source.name, { ...forwardOutputs, ...saved }),
    backward: k.kernel(`${source.name}'`, backwardOutputs, aliases),
    saved: Object.keys(saved),
  };
}

/** Contributions to the gradient of every expression, in the order the reverse walk finds them. */
function gradientsOf(source: Kernel): Map<Expr, Expr[]> {
  const contributions = new Map<Expr, Expr[]>();
  const contribute = (to: Expr, gradient: Expr): void => {
    const list = contributions.get(to);
    if (list) list.push(gradient);
    else contributions.set(to, [gradient]);
  };
  for (const { name, expr } of source.outputs)
    if (expr.dtype === "f32") contribute(expr, k.input(`d_${name}`, expr.dims));
  for (const expr of topological(source.outputs.map((o) => o.expr)).reverse()) {
    const list = contributions.get(expr);
    if (list === undefined || expr.op === "input") continue;
    const dy = sum(list);
    DERIVATIVES[expr.op](expr, dy).forEach((gradient, i) => {
      const operand = expr.inputs[i];
      if (gradient !== undefined && isVariable(operand))
        contribute(operand, reduceTo(gradient, operand.dims));
    });
  }
  return contributions;
}

const variables = new WeakMap<Expr, boolean>();
/** Whether an expression depends on an input that has a gradient. */
function isVariable(expr: Expr): boolean {
  let known = variables.get(expr);
  if (known === undefined) {
    known = expr.op === "input" ? expr.attrs.role !== "constant" : expr.inputs.some(isVariable);
    variables.set(expr, known);
  }
  return known;
}

/** Undoes broadcasting: sums over the axes an operand was stretched along. */
function reduceTo(gradient: Expr, dims: readonly Dim[]): Expr {
  const extra = gradient.dims.length - dims.length;
  const axes = gradient.dims
    .map((_, i) => i)
    .filter((i) => i < extra || (dims[i - extra] === 1 && gradient.dims[i] !== 1));
  if (axes.length === 0) return gradient;
  const summed = k.reduceSum(gradient, axes, true);
  return extra === 0 ? summed : k.reshape(summed, dims);
}

function sum(list: readonly Expr[]): Expr {
  const isPart = ({ op }: Expr): boolean => op === "pad";
  const whole = tiled(list.filter(isPart));
  if (whole !== undefined) return [...list.filter((e) => !isPart(e)), whole].reduce((a, b) => k.add(a, b));
  return prefixes(list) ?? list.reduce((a, b) => k.add(a, b));
}

/** Gradients of slices that tile an axis are one concatenation, not a sum of padded arrays. */
function tiled(list: readonly Expr[]): Expr | undefined {
  if (list.length < 2 || list.some((e) => e.attrs.axis !== list[0].attrs.axis)) return undefined;
  const axis = list[0].attrs.axis as number;
  const parts = [...list].sort((a, b) => (a.attrs.before as number) - (b.attrs.before as number));
  let at = 0;
  for (const part of parts) {
    if (part.attrs.before !== at) return undefined;
    at += part.inputs[0].dims[axis] as number;
  }
  return at === parts[0].dims[axis]
    ? k.concat(
        parts.map((p) => p.inputs[0]),
        axis,
      )
    : undefined;
}

/** Gradients of slices that begin where the axis begins (the keys that tiles of causal attention see). */
function prefixes(list: readonly Expr[]): Expr | undefined {
  if (list.length < 3) return undefined;
  const { dims } = list[0];
  const axis = dims.length - 2;
  const parts = list.map((e) =>
    e.op === "pad" && e.attrs.axis === axis && e.attrs.before === 0 ? e.inputs[0] : e,
  );
  const size = dims[axis];
  if (typeof size !== "number" || parts.every((part, i) => part === list[i])) return undefined;
  return k.sumPrefixes(parts, size);
}

/** A parameter's gradient added into its buffer: matrix products accumulate in place, the rest is an addition. */
function accumulate(buffer: Expr, contributions: readonly Expr[]): Expr {
  let total = buffer;
  for (const c of contributions) {
    if (c.op === "matmul" && c.dims.length === 2)
      total = k.gemmAccumulate(total, c.inputs[0], c.inputs[1], c.attrs);
    else total = k.add(total, c);
  }
  return total;
}

/** Rewrites gradient expressions over forward's inputs and saved activations, sharing equal sub-expressions. */
class Partition {
  readonly saved = new Map<Expr, string>();
  readonly #rebuilt = new Map<Expr, Expr>();
  readonly #byKey = new Map<string, Expr>();
  readonly #ids = new Map<Expr, number>();

  constructor(readonly kept: ReadonlySet<Expr>) {}

  rebuild(expr: Expr): Expr {
    const known = this.#rebuilt.get(expr);
    if (known !== undefined) return known;
    let result: Expr;
    if (this.kept.has(expr)) {
      let name = this.saved.get(expr);
      if (name === undefined) this.saved.set(expr, (name = `s_${this.saved.size}`));
      result = this.#share(k.input(name, expr.dims));
    } else {
      const inputs = expr.inputs.map((operand) => this.rebuild(operand));
      result = this.#share({ ...expr, inputs });
    }
    this.#rebuilt.set(expr, result);
    return result;
  }

  #share(expr: Expr): Expr {
    const key = nodeKey(expr, (operand) => this.#ids.get(operand) as number);
    const existing = this.#byKey.get(key);
    if (existing !== undefined) return existing;
    this.#byKey.set(key, expr);
    this.#ids.set(expr, this.#ids.size);
    return expr;
  }
}

export interface BackwardHalves {
  /** Computes `d_<input>`, and as outputs "t_0", "t_1", … what the other half needs of its way there. */
  readonly input: Kernel;
  /** Computes `g_<parameter>`; reads the "t_…" of the first half instead of computing them again. */
  readonly weight: Kernel;
  readonly carried: readonly string[];
}

const halvesCache = new WeakMap<Kernel, BackwardHalves>();

/** A backward kernel cut in two: input gradients (others wait for them) and weight gradients (nothing does). */
export function splitBackward(backward: Kernel): BackwardHalves {
  const known = halvesCache.get(backward);
  if (known !== undefined) return known;
  const of = (prefix: string) => backward.outputs.filter((o) => o.name.startsWith(prefix));
  const [inputOutputs, weightOutputs] = [of("d_"), of("g_")];
  assert(inputOutputs.length > 0 && weightOutputs.length > 0, `${backward.name} has d_* and g_* outputs`);
  const carried = shared(
    inputOutputs.map((o) => o.expr),
    weightOutputs.map((o) => o.expr),
  );
  const names = new Map(carried.map((expr, i) => [expr, `t_${i}`]));
  const halves: BackwardHalves = {
    input: k.kernel(`${backward.name}.input`, {
      ...Object.fromEntries(inputOutputs.map((o) => [o.name, o.expr])),
      ...Object.fromEntries(carried.map((expr) => [names.get(expr) as string, expr])),
    }),
    weight: rewriteKernel(`${backward.name}.weight`, weightOutputs, (expr) => {
      const name = names.get(expr);
      return name === undefined ? expr : k.input(name, expr.dims);
    }),
    carried: [...names.values()],
  };
  halvesCache.set(backward, halves);
  return halves;
}

/**
 * Expensive expressions that both halves need, each as close to its user in the second half as possible: what the first
 * half hands to the second.
 */
function shared(first: readonly Expr[], second: readonly Expr[]): Expr[] {
  const common = new Set(topological(first));
  const heavy = new Set<Expr>();
  const order = topological(second);
  for (const expr of order)
    if (
      expr.op !== "input" &&
      (SAVED_FOR_BACKWARD.has(expr.op) || expr.inputs.some((operand) => heavy.has(operand)))
    )
      heavy.add(expr);
  const wanted = new Set<Expr>();
  for (const expr of order)
    if (!common.has(expr))
      for (const operand of expr.inputs) if (common.has(operand) && heavy.has(operand)) wanted.add(operand);
  for (const expr of second) if (common.has(expr) && heavy.has(expr)) wanted.add(expr);
  return [...wanted];
}
