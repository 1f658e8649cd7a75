/**
 * Cuts a kernel where an op is better done by a routine than by the tensor graph: stages alternate between graphs and
 * routines, and hand values to each other. Pure: which ops have routines is the caller's business.
 */
import * as k from "../kernel/build.js";
import { topological } from "../kernel/topological.js";
import type { Expr, Kernel } from "../kernel/kernel.js";
import { rewriteKernel, rewriter } from "../kernel/rewrite.js";

/** A graph computes the outputs of `kernel`; its inputs are the whole kernel's, and values of earlier stages by name. */
export interface GraphStage {
  readonly kind: "graph";
  readonly kernel: Kernel;
}

export interface RoutineStage {
  readonly kind: "routine";
  readonly op: Expr;
  /** Names of the operands and of the result, as in a graph's bindings. */
  readonly inputs: readonly string[];
  readonly output: string;
}

export type Stage = GraphStage | RoutineStage;

export interface StagedKernel {
  readonly stages: readonly Stage[];
  /** Values that one stage makes and a later one reads, by name. */
  readonly handed: ReadonlyMap<string, Expr>;
}

/**
 * When an op is computed by a routine: always; only if all its operands are inputs of the kernel or results of routines, or a
 * weight gradient waits for it (`withPlainProducts`); or never.
 */
export type RoutineUse = (expr: Expr) => "always" | "given" | "never";

/** @returns undefined when the kernel is one graph: no op wants a routine, or a routine's result would have two names */
export function stagesOf(source: Kernel, use: RoutineUse): StagedKernel | undefined {
  if (!topological(source.outputs.map((o) => o.expr)).some((expr) => use(expr) === "always"))
    return undefined;
  const kernel = withPlainProducts(source, use);
  const order = topological(kernel.outputs.map((o) => o.expr));
  const routines = new Set<Expr>();
  const forProducts = new Set(order.filter(isPlainProduct).map((expr) => expr.inputs[1]));
  for (const expr of order) {
    const isGiven = (operand: Expr): boolean => operand.op === "input" || routines.has(operand);
    const how = use(expr);
    const isWorthIt = forProducts.has(expr) || expr.inputs.every(isGiven);
    if (how === "always" || (how === "given" && isWorthIt)) routines.add(expr);
  }
  const results = kernel.outputs.map((o) => o.expr).filter((expr) => routines.has(expr));
  if (new Set(results).size < results.length) return undefined;
  const level = levels(order, routines);
  const names = namesOf(kernel, order, routines, level);
  const stages: Stage[] = [];
  const last = Math.max(...level.values());
  for (let at = 0; at <= last; at++) {
    if (at % 2 === 0) stages.push(...graphStage(kernel, order, { at, level, names, routines }));
    else
      for (const op of order)
        if (routines.has(op) && level.get(op) === at)
          stages.push({
            kind: "routine",
            op,
            inputs: op.inputs.map((operand) => names.get(operand) as string),
            output: names.get(op) as string,
          });
  }
  const outputs = new Set(kernel.outputs.map((o) => o.name));
  const handed = [...names].filter(([expr, name]) => expr.op !== "input" && !outputs.has(name));
  return { stages, handed: new Map(handed.map(([expr, name]) => [name, expr])) };
}

/** By stage: handed values that it makes, and those that nobody needs after it. */
export interface HandedLives {
  readonly made: readonly (readonly string[])[];
  readonly done: readonly (readonly string[])[];
}

/** When each handed value begins and ends. */
export function livesOf({ stages, handed }: StagedKernel): HandedLives {
  const makes = (name: string): number =>
    stages.findIndex((s) =>
      s.kind === "graph" ? s.kernel.outputs.some((o) => o.name === name) : s.output === name,
    );
  const lastUse = (name: string): number =>
    stages.findLastIndex((s) =>
      s.kind === "graph" ? s.kernel.inputs.some((i) => i.name === name) : s.inputs.includes(name),
    );
  const at = (index: (name: string) => number) =>
    stages.map((_, i) => [...handed.keys()].filter((name) => index(name) === i));
  return { made: at(makes), done: at(lastUse) };
}

/**
 * Weight gradients aᵀ·b with `a` transposed beforehand, where a routine can do it: matrix products read their first
 * operand by rows, and are a fifth to a half slower on one that lies by columns.
 */
function withPlainProducts(kernel: Kernel, use: RoutineUse): Kernel {
  return rewriteKernel(kernel.name, kernel.outputs, (expr) => {
    const [c, a, b] = expr.inputs;
    const isEligible =
      expr.op === "gemmAccumulate" && expr.attrs.transA === true && use(k.transpose(a, [1, 0])) === "given";
    return isEligible
      ? { ...expr, inputs: [c, k.transpose(a, [1, 0]), b], attrs: { ...expr.attrs, transA: false } }
      : expr;
  });
}

/** A weight gradient of `withPlainProducts`. */
function isPlainProduct({ op, attrs, inputs: [, a] }: Expr): boolean {
  return op === "gemmAccumulate" && attrs.transA === false && a.op === "transpose";
}

/**
 * Each op gets a level: graphs have even ones, routines odd ones. First every op is put as early as its operands allow;
 * then every op of a graph as late as its users allow, so that few values pass from stage to stage.
 */
function levels(order: readonly Expr[], routines: ReadonlySet<Expr>): Map<Expr, number> {
  const level = new Map<Expr, number>();
  const isGiven = (expr: Expr): boolean => expr.op === "input" || expr.op === "constant";
  for (const expr of order) {
    let at = routines.has(expr) ? 1 : 0;
    for (const operand of expr.inputs) {
      const from = level.get(operand) as number;
      if (isGiven(operand)) continue;
      at = Math.max(at, routines.has(operand) === routines.has(expr) ? from : from + 1);
    }
    level.set(expr, at);
  }
  const lastGraph = Math.max(0, ...order.filter((e) => !routines.has(e)).map((e) => level.get(e) as number));
  const latest = new Map<Expr, number>();
  for (const expr of [...order].reverse()) {
    if (!routines.has(expr)) level.set(expr, Math.min(latest.get(expr) ?? lastGraph, lastGraph));
    const at = level.get(expr) as number;
    for (const operand of expr.inputs) {
      const limit = routines.has(expr) ? at - 1 : at;
      latest.set(operand, Math.min(latest.get(operand) ?? Infinity, limit));
    }
  }
  return level;
}

/** Inputs and outputs keep their names; every other value that crosses a stage gets one. */
function namesOf(
  kernel: Kernel,
  order: readonly Expr[],
  routines: ReadonlySet<Expr>,
  level: ReadonlyMap<Expr, number>,
): Map<Expr, string> {
  const names = new Map<Expr, string>();
  for (const expr of order) if (expr.op === "input") names.set(expr, expr.attrs.name as string);
  for (const { name, expr } of kernel.outputs) if (!names.has(expr)) names.set(expr, name);
  const crosses = new Set<Expr>();
  for (const expr of order)
    for (const operand of expr.inputs)
      if (routines.has(expr) || routines.has(operand) || level.get(operand) !== level.get(expr))
        crosses.add(operand);
  for (const expr of order)
    if (crosses.has(expr) && !names.has(expr) && expr.op !== "constant")
      names.set(expr, `stage_${names.size}`);
  // A constant that a routine reads is computed by a graph like any value.
  for (const expr of routines)
    for (const operand of expr.inputs)
      if (operand.op === "constant") names.set(operand, `stage_${names.size}`);
  return names;
}

function graphStage(
  kernel: Kernel,
  order: readonly Expr[],
  c: {
    at: number;
    level: ReadonlyMap<Expr, number>;
    names: ReadonlyMap<Expr, string>;
    routines: ReadonlySet<Expr>;
  },
): GraphStage[] {
  const { at, level, names, routines } = c;
  const isHere = (expr: Expr): boolean => !routines.has(expr) && level.get(expr) === at;
  const rewrite = rewriter((expr) => {
    const name = names.get(expr);
    return expr.op === "input" || name === undefined || isHere(expr)
      ? expr
      : k.input(name, expr.dims, expr.dtype);
  });
  const outputs: Record<string, Expr> = {};
  const aliases: Record<string, string> = {};
  for (const expr of order)
    if (expr.op !== "input" && isHere(expr) && names.has(expr))
      outputs[names.get(expr) as string] = rewrite(expr);
  // One expression may be several outputs.
  for (const { name, expr, aliasOf } of kernel.outputs) {
    if (!isHere(expr)) continue;
    outputs[name] = rewrite(expr);
    if (aliasOf !== undefined) aliases[name] = aliasOf;
  }
  if (Object.keys(outputs).length === 0) return [];
  return [{ kind: "graph", kernel: k.kernel(`${kernel.name}.${at}`, outputs, aliases) }];
}
