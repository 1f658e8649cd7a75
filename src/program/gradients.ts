import { type Operator, type RuleTable, applyRule } from "./operator.js";

const none = (): readonly string[] => [];

/** Families of the parameters whose gradients an operator adds to; "{e}" stands for any expert. */
const GRADIENTS: RuleTable<[], readonly string[]> = {
  embed: none,
  "embed'": ({ data: { embedding, positions } }) =>
    positions === undefined ? [embedding] : [embedding, positions.table],
  kernel: none,
  "kernel'": ({ data: { kernel, parameters } }) =>
    Object.entries(parameters).flatMap(([name, span]) =>
      kernel.outputs.some((output) => output.name === `g_${name}`) ? span : [],
    ),
  route: none,
  "route'": none,
  encode: none,
  "encode'": none,
  transfer: none,
  expert: none,
  "expert'": ({ data: { part, forward } }) =>
    part === "input" ? [] : Object.values(forward.parameters).flat(),
  decode: none,
  "decode'": none,
  sum: none,
  statistics: none,
  "reduce-scatter": none,
  "reduce-sum": none,
  "all-gather": none,
  update: none,
};

export function gradientsWritten(op: Operator): readonly string[] {
  return applyRule(GRADIENTS, op);
}
