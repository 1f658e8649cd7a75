/** The derivative of each kind of operator. What is unusual in a rule is said beside it; data are described in `kinds.ts`. */
import { assert } from "../core/errors.js";
import { splitBackward } from "../kernel/differentiate.js";
import { kernelWork } from "../kernel/work.js";
import type { BackwardWalk } from "./backward-walk.js";
import { expertWork } from "./expert-work.js";
import type * as K from "./kinds.js";
import type { Operator, RuleTable } from "./operator.js";
import type { Work } from "./work.js";

const notDifferentiable = (op: { readonly name: string }): void =>
  assert(false, `${op.name} is part of a backward pass or follows it, and has no derivative`);

type Bound = Pick<K.KernelData, "kernel" | "inputs" | "outputs">;
type Half = NonNullable<Work["half"]>;

/** What the derivative has of its operator, unless a rule says otherwise. */
const primeOf = ({ name, layer, branch }: Operator) => ({
  name: `${name}'`,
  pass: "backward" as const,
  layer,
  branch,
});

/** The input half keeps the plain prime in its name, as a backward pass that is not split has it. */
const SUFFIX = { input: "'", weight: "'w" } as const satisfies Record<Half, string>;

export const BACKWARD_RULES: RuleTable<[walk: BackwardWalk], void> = {
  kernel(op, walk) {
    const { kernel: source, inputs: given, outputs: made, parameters } = op.data;
    const { forward, backward, saved } = walk.derivative(source);
    const kept = Object.fromEntries(saved.map((name) => [name, walk.builder.value(`${op.name}.${name}`, 0)]));
    const originals: Readonly<Record<string, number>> = { ...given, ...made, ...kept };
    walk.builder.replace(op.id, {
      ...op,
      writes: [...op.writes, ...Object.values(kept)],
      data: { ...op.data, kernel: forward, outputs: { ...made, ...kept } },
    });
    const inputs: Record<string, number> = {};
    for (const { name, role } of backward.inputs) {
      if (name.startsWith("d_")) {
        inputs[name] = walk.gradientOf(made[name.slice(2)], op);
      } else if (role !== "parameter") {
        inputs[name] = originals[name];
        assert(inputs[name] !== undefined, `${op.name}: nothing is bound to ${name}`);
      }
    }
    const outputs: Record<string, number> = {};
    for (const { name } of backward.outputs)
      if (name.startsWith("d_")) outputs[name] = walk.gradientValue(given[name.slice(2)]);
    const emit = ({ kernel, inputs: known, outputs: written }: Bound, half?: Half): void => {
      const read = Object.fromEntries(
        Object.entries(known).filter(([name]) => kernel.inputs.some((input) => input.name === name)),
      );
      const names = half === "input" ? [] : Object.values(parameters).flat();
      walk.builder.add({
        ...primeOf(op),
        name: `${op.name}${SUFFIX[half ?? "input"]}`,
        kind: "kernel'",
        reads: [...new Set(Object.values(read))],
        writes: Object.values(written),
        after: walk.chain(names, walk.builder.nextId),
        work: { class: op.work.class, half, ...kernelWork(kernel, walk.options.symbols) },
        data: { kernel, inputs: read, outputs: written, parameters },
      });
    };
    const hasParameters = Object.keys(parameters).length > 0;
    if (walk.options.splitWeightGradients && hasParameters && Object.keys(outputs).length > 0) {
      const halves = splitBackward(backward);
      const carried = Object.fromEntries(
        halves.carried.map((name) => [name, walk.builder.value(`${op.name}'.${name}`, 0)]),
      );
      emit({ kernel: halves.input, inputs, outputs: { ...outputs, ...carried } }, "input");
      emit({ kernel: halves.weight, inputs: { ...inputs, ...carried }, outputs: {} }, "weight");
    } else emit({ kernel: backward, inputs, outputs });
    for (const [name, gradient] of Object.entries(outputs)) walk.contribute(given[name.slice(2)], gradient);
  },

  embed(op, walk) {
    const { tokens, output, embedding, positions, padding } = op.data;
    const gradient = walk.gradientOf(output, op);
    walk.builder.add({
      ...primeOf(op),
      kind: "embed'",
      reads: [tokens, gradient, ...(positions?.starts === undefined ? [] : [positions.starts])],
      writes: [],
      after: walk.chain(
        [embedding, ...(positions === undefined ? [] : [positions.table])],
        walk.builder.nextId,
      ),
      work: op.work,
      data: { tokens, gradient, embedding, positions, padding },
    });
  },

  route(op, walk) {
    const { shape, routing, weights, logits } = op.data;
    const dWeights = walk.gradientOf(weights, op);
    const dLogits = walk.gradientValue(logits);
    const statistics = walk.statistics.get(routing);
    const { scales } = walk.options;
    const reads = [routing, weights, dWeights, scales];
    if (statistics !== undefined) reads.push(statistics);
    const [index, numRoutings] = [walk.nextRouting(), walk.numRoutings];
    walk.builder.add({
      ...primeOf(op),
      kind: "route'",
      reads,
      writes: [dLogits],
      work: op.work,
      data: { shape, routing, dWeights, dLogits, scales, index, numRoutings, statistics },
    });
    walk.contribute(logits, dLogits);
  },

  // All chunks of one encode read the same rows: their gradients are scattered by one operator, emitted at chunk 0.
  encode(op, walk) {
    const { shape, chunk, chunks, input, routing, send } = op.data;
    const gradient = walk.gradientOf(send, op);
    const collected = walk.encodeGradients.get(routing) ?? [];
    collected.unshift(gradient);
    walk.encodeGradients.set(routing, collected);
    if (chunk > 0) return;
    const dInput = walk.gradientValue(input);
    walk.builder.add({
      ...primeOf(op),
      kind: "encode'",
      reads: [routing, ...collected],
      writes: [dInput],
      work: { ...op.work, bytes: op.work.bytes * chunks },
      data: { shape, chunks, routing, dSend: collected, dInput },
    });
    walk.contribute(input, dInput);
  },

  transfer(op, walk) {
    const { data } = op;
    const gradient = walk.gradientOf(data.output, op);
    const output = walk.gradientValue(data.input);
    walk.builder.add({
      ...primeOf(op),
      kind: "transfer",
      chunk: op.chunk,
      reads: [data.routing, data.counts, gradient],
      writes: [output],
      work: op.work,
      data: {
        ...data,
        direction: data.direction === "to-experts" ? "to-tokens" : "to-experts",
        bringsCounts: false,
        input: gradient,
        output,
      },
    });
    walk.contribute(data.input, output);
  },

  expert(op, walk) {
    const { data } = op;
    const { forward: kernel, backward } = walk.derivative(data.kernel);
    const saved = walk.builder.value(`${op.name}.saved`, walk.builder.bytesOf(data.arrived) * 4);
    const forward = { ...data, kernel, saved };
    walk.builder.replace(op.id, { ...op, writes: [...op.writes, saved], data: forward });
    const dOutput = walk.gradientOf(data.output, op);
    const dArrived = walk.gradientValue(data.arrived);
    const rows = op.work.rows ?? 0;
    const emit = (
      spec: { reads: number[]; writes: number[]; data: K.ExpertBackwardData },
      half?: Half,
    ): void => {
      // "{e}" stands for all local experts: chunks of one layer accumulate into the same gradients.
      const names = half === "input" ? [] : Object.values(data.parameters).flat();
      walk.builder.add({
        ...primeOf(op),
        ...spec,
        name: `${op.name}${SUFFIX[half ?? "input"]}`,
        kind: "expert'",
        chunk: op.chunk,
        after: walk.chain(names, walk.builder.nextId),
        work: expertWork(spec.data.kernel, { rows, half, shape: data.shape }),
      });
    };
    const given = [data.counts, saved, dOutput];
    if (walk.options.splitWeightGradients) {
      const { input, weight } = splitBackward(backward);
      const carried = walk.builder.value(`${op.name}'.carried`, 0);
      const first = { part: "input", forward, kernel: input, dOutput, dArrived, carried } as const;
      emit({ reads: given, writes: [dArrived, carried], data: first }, "input");
      const second = { part: "weight", forward, kernel: weight, carried, input } as const;
      emit({ reads: [data.counts, saved, carried], writes: [], data: second }, "weight");
    } else
      emit({
        reads: given,
        writes: [dArrived],
        data: { part: "both", forward, kernel: backward, dOutput, dArrived },
      });
    walk.contribute(data.arrived, dArrived);
  },

  decode(op, walk) {
    const { data: forward } = op;
    const dOutput = walk.gradientOf(forward.output, op);
    const dRows = forward.rows.map((rows) => walk.gradientValue(rows));
    const dWeights = walk.gradientValue(forward.weights);
    const gradientOfOptional = (value: number | undefined): number | undefined =>
      value === undefined ? undefined : walk.gradientValue(value);
    const [dScale, dIdentity] = [gradientOfOptional(forward.scale), gradientOfOptional(forward.identity)];
    const present = (values: (number | undefined)[]): number[] => values.filter((v) => v !== undefined);
    const reads = [forward.routing, forward.weights, ...forward.rows, dOutput];
    reads.push(...present([forward.scale, forward.identity]));
    walk.builder.add({
      ...primeOf(op),
      kind: "decode'",
      reads,
      writes: [...dRows, dWeights, ...present([dScale, dIdentity])],
      work: { ...op.work, bytes: op.work.bytes * 2 },
      data: { forward, dOutput, dRows, dWeights, dScale, dIdentity },
    });
    forward.rows.forEach((rows, i) => walk.contribute(rows, dRows[i]));
    walk.contribute(forward.weights, dWeights);
    if (forward.scale !== undefined && dScale !== undefined) walk.contribute(forward.scale, dScale);
    if (forward.identity !== undefined && dIdentity !== undefined)
      walk.contribute(forward.identity, dIdentity);
    // The residual stream passes the gradient on unchanged: the same value, no copy.
    walk.contribute(forward.base, dOutput);
  },

  // Statistics take no part in the chain rule: they enter the gate's gradient as constants.
  statistics({ data }, walk) {
    for (const routing of data.routings.flat()) walk.statistics.set(routing, data.output);
  },

  // What a sum receives each of its operands receives: the same value, no copy.
  sum(op, walk) {
    const gradient = walk.gradientOf(op.data.output, op);
    for (const operand of op.data.operands) walk.contribute(operand, gradient);
  },

  "embed'": notDifferentiable,
  "kernel'": notDifferentiable,
  "route'": notDifferentiable,
  "encode'": notDifferentiable,
  "expert'": notDifferentiable,
  "decode'": notDifferentiable,
  "reduce-scatter": notDifferentiable,
  "reduce-sum": notDifferentiable,
  "all-gather": notDifferentiable,
  update: notDifferentiable,
};
