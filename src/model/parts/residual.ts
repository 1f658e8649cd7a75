import * as k from "../../kernel/build.js";
import type { Expr } from "../../kernel/kernel.js";

/**
 * Whether a part's kernel adds what it computes to what it reads, y = x + f(norm(x)); apart it gives the summand alone,
 * y = f(norm(x)), for a sum with another stream, which may arrive later than x.
 */
export type Residual = "added" | "apart";

/** A part's output from its input and the summand that it computes, both [T, D]. */
export function withResidual(x: Expr, summand: Expr, residual: Residual = "added"): Expr {
  return residual === "added" ? k.add(x, summand) : summand;
}
