import type { Expr } from "./kernel.js";

/** Operands before users. */
export function topological(roots: readonly Expr[]): Expr[] {
  const order: Expr[] = [];
  const seen = new Set<Expr>();
  const visit = (expr: Expr): void => {
    if (seen.has(expr)) return;
    seen.add(expr);
    expr.inputs.forEach(visit);
    order.push(expr);
  };
  roots.forEach(visit);
  return order;
}
