/**
 * What forward keeps for backward: results of expensive ops, each as late on its way into backward as it is not larger: behind the
 * transposes, slices and rotations that backward would only repeat.
 */
import type { Expr, Kernel } from "./kernel.js";
import { SAVED_FOR_BACKWARD } from "./ops.js";
import { topological } from "./topological.js";

const isExpensive = ({ op }: Expr): boolean => SAVED_FOR_BACKWARD.has(op);

/**
 * The values of `source` that its forward half gives to its backward half.
 * @param gradients all that backward computes: expressions over those of `source`
 */
export function keptExpressions(source: Kernel, gradients: readonly Expr[]): Set<Expr> {
  const order = topological(source.outputs.map((o) => o.expr));
  const needed = operandsOf(gradients, new Set(order));
  const ways = waysFrom(order, needed);
  const latest = (expr: Expr): Expr[] => {
    const readers = ways.readers(expr);
    if (needed.has(expr) || readers.length === 0) return [expr];
    if (isPartition(readers)) return readers.flatMap(latest);
    const next = ways.next(expr);
    return next === undefined || !isAtMost(size(next), size(expr)) ? [expr] : latest(next);
  };
  return new Set(order.filter((expr) => isExpensive(expr) && ways.leads(expr)).flatMap(latest));
}

/** Those of `forward` that gradients read. */
function operandsOf(gradients: readonly Expr[], forward: ReadonlySet<Expr>): Set<Expr> {
  const found = new Set<Expr>();
  const seen = new Set<Expr>();
  const visit = (expr: Expr): void => {
    if (seen.has(expr)) return;
    seen.add(expr);
    if (forward.has(expr)) found.add(expr);
    else expr.inputs.forEach(visit);
  };
  gradients.forEach(visit);
  return found;
}

/** The ways from forward's expressions to those that backward needs; none passes an expensive one. */
function waysFrom(order: readonly Expr[], needed: ReadonlySet<Expr>) {
  const readersOf = new Map<Expr, Expr[]>(order.map((expr) => [expr, []]));
  /** By expression with a way: what every way from it passes, itself included, in the order it is passed. */
  const passed = new Map<Expr, readonly Expr[]>();
  for (const expr of [...order].reverse()) {
    const readers = readersOf.get(expr) as Expr[];
    if (needed.has(expr)) passed.set(expr, [expr]);
    else if (readers.length === 0) continue;
    else passed.set(expr, [expr, ...commonOf(readers.map((reader) => passed.get(reader) as Expr[]))]);
    if (!isExpensive(expr)) for (const operand of new Set(expr.inputs)) readersOf.get(operand)?.push(expr);
  }
  return {
    leads: (expr: Expr): boolean => passed.has(expr),
    readers: (expr: Expr): readonly Expr[] => readersOf.get(expr) as Expr[],
    /** The first expression that every way passes. */
    next: (expr: Expr): Expr | undefined => passed.get(expr)?.[1],
  };
}

function commonOf([first, ...rest]: readonly (readonly Expr[])[]): readonly Expr[] {
  if (rest.length === 0) return first;
  const others = rest.map((list) => new Set(list));
  return first.filter((expr) => others.every((list) => list.has(expr)));
}

/** Slices of one value that do not overlap. */
function isPartition(readers: readonly Expr[]): boolean {
  if (readers.some(({ op, attrs }) => op !== "slice" || attrs.axis !== readers[0].attrs.axis)) return false;
  const ranges = readers.map(({ attrs }) => [attrs.start as number, attrs.end as number] as const);
  ranges.sort(([a], [b]) => a - b);
  return ranges.every(([start], i) => i === 0 || start >= ranges[i - 1][1]);
}

/** Elements: a number times symbols. */
interface Size {
  readonly count: number;
  readonly symbols: string;
}

/** Said in the symbols of what it was reshaped or computed from, since only equal ones compare. */
function size(expr: Expr): Size {
  if (expr.op === "reshape" || expr.op === "transpose") return size(expr.inputs[0]);
  if (expr.op === "slice") {
    const [{ attrs }, whole] = [expr, size(expr.inputs[0])];
    const of = expr.inputs[0].dims[attrs.axis as number] as number;
    return { ...whole, count: (whole.count * ((attrs.end as number) - (attrs.start as number))) / of };
  }
  const like = expr.inputs.find(({ dims }) => dims.join() === expr.dims.join());
  if (like !== undefined && !isExpensive(expr)) return size(like);
  const symbols = expr.dims.filter((dim) => typeof dim === "string");
  const numbers = expr.dims.filter((dim) => typeof dim === "number");
  return { count: numbers.reduce((product, n) => product * n, 1), symbols: symbols.sort().join() };
}

const isAtMost = (a: Size, b: Size): boolean => a.symbols === b.symbols && a.count <= b.count * (1 + 1e-9);
