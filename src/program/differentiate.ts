/**
 * Derives the backward half of a program (method 5.6, 7.8): operators in reverse, each by the rule of its kind. Gradients that meet
 * in one value meet in a `sum` operator with ordered operands; operators that accumulate into one parameter's
 * gradient are chained in a fixed order. Both keep the bits independent of the schedule. Forward operators become
 * their training form: they also write the activations that backward needs.
 */
import { BACKWARD_RULES } from "./backward-rules.js";
import { type BackwardOptions, BackwardWalk } from "./backward-walk.js";
import { applyRule } from "./operator.js";
import type { Program } from "./program.js";

/** @returns the program with the backward half behind it; operators and values of `forward` keep their ids */
export function differentiateProgram(forward: Program, options: BackwardOptions): Program {
  const walk = new BackwardWalk(forward, options);
  for (const op of forward.operators.toReversed()) applyRule(BACKWARD_RULES, op, walk);
  return walk.builder.build(`${forward.name} forward+backward`);
}
