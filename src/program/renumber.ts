/** The ids of values in what each kind of operator carries, under other numbers: for operators that are copied. */
import type * as K from "./kinds.js";
import type { Kind, Operator } from "./operator.js";

/** The id that a value gets. */
export type Renumbering = (value: number) => number;

type Renumbered = { readonly [P in Kind]: (data: K.KindData[P], to: Renumbering) => K.KindData[P] };

/** `undefined` where there is no value. */
const optional = (value: number | undefined, to: Renumbering): number | undefined =>
  value === undefined ? undefined : to(value);

const record = (values: Readonly<Record<string, number>>, to: Renumbering): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, to(value)]));

const embedded = <D extends K.EmbedData | K.EmbedBackwardData>(data: D, to: Renumbering): D => {
  const { tokens, positions } = data;
  const moved = positions && {
    ...positions,
    starts: optional(positions.starts, to),
    at: optional(positions.at, to),
  };
  return { ...data, tokens: to(tokens), positions: moved };
};

const kernel = (data: K.KernelData, to: Renumbering): K.KernelData => ({
  ...data,
  inputs: record(data.inputs, to),
  outputs: record(data.outputs, to),
});

const expert = (data: K.ExpertData, to: Renumbering): K.ExpertData => ({
  ...data,
  arrived: to(data.arrived),
  counts: to(data.counts),
  output: to(data.output),
  saved: optional(data.saved, to),
});

const decode = (data: K.DecodeData, to: Renumbering): K.DecodeData => ({
  ...data,
  routing: to(data.routing),
  weights: to(data.weights),
  rows: data.rows.map(to),
  base: to(data.base),
  scale: optional(data.scale, to),
  identity: optional(data.identity, to),
  output: to(data.output),
});

const RENUMBERED: Renumbered = {
  embed: (data, to) => ({ ...embedded(data, to), output: to(data.output) }),
  "embed'": (data, to) => ({ ...embedded(data, to), gradient: to(data.gradient) }),
  kernel,
  "kernel'": kernel,
  route: (data, to) => ({
    ...data,
    logits: to(data.logits),
    avoid: optional(data.avoid, to),
    routing: to(data.routing),
    weights: to(data.weights),
  }),
  "route'": (data, to) => ({
    ...data,
    routing: to(data.routing),
    dWeights: to(data.dWeights),
    dLogits: to(data.dLogits),
    scales: to(data.scales),
    statistics: optional(data.statistics, to),
  }),
  encode: (data, to) => ({
    ...data,
    input: to(data.input),
    routing: to(data.routing),
    send: to(data.send),
  }),
  "encode'": (data, to) => ({
    ...data,
    routing: to(data.routing),
    dSend: data.dSend.map(to),
    dInput: to(data.dInput),
  }),
  transfer: (data, to) => ({
    ...data,
    routing: to(data.routing),
    input: to(data.input),
    counts: to(data.counts),
    output: to(data.output),
  }),
  expert,
  "expert'"(data, to) {
    const forward = { ...expert(data.forward, to), saved: to(data.forward.saved) };
    if (data.part === "weight") return { ...data, forward, carried: to(data.carried) };
    const gradients = { forward, dOutput: to(data.dOutput), dArrived: to(data.dArrived) };
    return data.part === "both"
      ? { ...data, ...gradients }
      : { ...data, ...gradients, carried: to(data.carried) };
  },
  decode,
  "decode'": (data, to) => ({
    forward: decode(data.forward, to),
    dOutput: to(data.dOutput),
    dRows: data.dRows.map(to),
    dWeights: to(data.dWeights),
    dScale: optional(data.dScale, to),
    dIdentity: optional(data.dIdentity, to),
  }),
  sum: (data, to) => ({ operands: data.operands.map(to), output: to(data.output) }),
  statistics: (data, to) => ({
    routings: data.routings.map((ofMicroBatches) => ofMicroBatches.map(to)),
    output: to(data.output),
  }),
  "reduce-scatter": (data, to) => ({ ...data, output: to(data.output) }),
  "reduce-sum": (data, to) => ({ ...data, input: to(data.input) }),
  "all-gather": (data) => data,
  update: (data, to) => ({ ...data, update: to(data.update) }),
};

/** What an operator carries, with every value's id replaced. */
export function renumber({ kind, data }: Operator, to: Renumbering): K.KindData[Kind] {
  // The compiler cannot see that a kind's data meet the rule of that kind; `Operator` says so.
  return (RENUMBERED[kind] as (data: unknown, to: Renumbering) => K.KindData[Kind])(data, to);
}
