import { type Operator, type RuleTable, applyRule } from "./operator.js";

const none = (): readonly string[] => [];

/** Families of the parameters that an operator reads; "{e}" stands for any expert. Selection biases are none: no gradient moves them. */
const WEIGHTS: RuleTable<[], readonly string[]> = {
  embed: ({ data: { embedding, positions } }) =>
    positions === undefined ? [embedding] : [embedding, positions.table],
  "embed'": none,
  kernel: ({ data: { parameters } }) => Object.values(parameters).flat(),
  "kernel'": ({ data: { parameters } }) => Object.values(parameters).flat(),
  route: none,
  "route'": none,
  encode: none,
  "encode'": none,
  transfer: none,
  expert: ({ data: { parameters } }) => Object.values(parameters).flat(),
  "expert'": ({ data: { forward } }) => Object.values(forward.parameters).flat(),
  decode: none,
  "decode'": none,
  sum: none,
  statistics: none,
  "reduce-scatter": none,
  "reduce-sum": none,
  "all-gather": none,
  update: none,
};

export function weightsRead(op: Operator): readonly string[] {
  return applyRule(WEIGHTS, op);
}
