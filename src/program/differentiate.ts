/**
 * Derives the backward half of a program: operators in reverse, each by the rule of its kind. Gradients that meet
 * in one value meet in a `sum` operator with ordered operands; operators that accumulate into one parameter's
 * gradient are chained in a fixed order. Both keep the bits independent of the schedule.
 */
import { assert } from "../core/errors.js";
import { splitBackward } from "../kernel/differentiate.js";
import type { Kernel } from "../kernel/kernel.js";
import { ProgramBuilder } from "./builder.js";
import type * as K from "./kinds.js";
import type { Operator, Program } from "./program.js";

export interface BackwardOptions {
  /** Splits the backward of kernels and experts into input gradients (critical) and weight gradients (fill gaps). */
  readonly splitWeightGradients?: boolean;
  /** The value that seeds the gradient of each head's losses: head output value id → seed value id. */
  readonly seeds: ReadonlyMap<number, number>;
  /** Values whose gradient nobody wants (program inputs). */
  readonly stopAt?: ReadonlySet<number>;
}

export function differentiateProgram(forward: Program, options: BackwardOptions): Program {
  const walk = new BackwardWalk(forward, options);
  for (const op of [...forward.operators].reverse()) {
    const rule = BACKWARD_RULES[op.kind];
    assert(rule !== undefined, `no backward rule for operator kind "${op.kind}" (${op.name})`);
    rule(op, walk);
  }
  return walk.builder.build(`${forward.name} forward+backward`);
}

class BackwardWalk {
  readonly builder: ProgramBuilder;
  readonly #contributions = new Map<number, number[]>();
  readonly #lastWriter = new Map<string, number>();
  /** Routing value → statistics value, when balance statistics are summed over ranks. */
  readonly statistics = new Map<number, number>();
  /** Encode contributions per (input value, routing): chunks are gathered into one backward operator. */
  readonly encodeGradients = new Map<number, number[]>();

  constructor(
    forward: Program,
    readonly options: BackwardOptions,
  ) {
    this.builder = new ProgramBuilder(forward);
    for (const [value, seed] of options.seeds) this.contribute(value, seed);
  }

  contribute(value: number, gradient: number): void {
    if (this.options.stopAt?.has(value)) return;
    const list = this.#contributions.get(value);
    if (list) list.push(gradient);
    else this.#contributions.set(value, [gradient]);
  }

  /** The gradient of a value: its only contribution, or a `sum` operator over all of them. */
  gradientOf(value: number, source: Operator): number | undefined {
    const list = this.#contributions.get(value);
    if (list === undefined) return undefined;
    if (list.length === 1) return list[0];
    const output = this.builder.value(`d(${this.builder.nameOf(value)})`, this.builder.bytesOf(value));
    // Contributions arrive in reverse program order: later consumers first. That order is the order of the sum.
    this.builder.add({
      name: `sum d(${this.builder.nameOf(value)})`,
      kind: "sum",
      pass: "backward",
      layer: source.layer,
      reads: list,
      writes: [output],
      cost: "sum",
      data: { operands: list, output } satisfies K.SumData,
    });
    this.#contributions.set(value, [output]);
    return output;
  }

  gradientValue(value: number): number {
    return this.builder.value(`d(${this.builder.nameOf(value)})`, this.builder.bytesOf(value));
  }

  /** Ordering edges so that accumulations into the same parameters happen in one order; records `id` as the last. */
  chain(parameters: Iterable<string>, id: number): readonly number[] {
    const after = new Set<number>();
    for (const name of parameters) {
      const last = this.#lastWriter.get(name);
      if (last !== undefined) after.add(last);
      this.#lastWriter.set(name, id);
    }
    return [...after].sort((a, b) => a - b);
  }

  get nextId(): number {
    return this.builder.build("").operators.length;
  }
}

type Bound = Pick<K.KernelBackwardData, "inputs" | "outputs">;

/** Input gradients keep the plain prime in their name; their cost is a class of its own. */
const INPUT_HALF = { name: "'", cost: "'i" } as const;
const WEIGHT_HALF = { name: "'w", cost: "'w" } as const;

type BackwardRule = (op: Operator, walk: BackwardWalk) => void;

/** What is unusual in each rule is said beside it; shapes are in `kinds.ts`. */
const BACKWARD_RULES: Readonly<Record<string, BackwardRule>> = {
  kernel(op, walk) {
    const data = op.data as K.KernelData;
    const backward = data.kernel.backward;
    const inputs: Record<string, number> = {};
    for (const input of backward.inputs) {
      if (input.name.startsWith("g_")) continue;
      if (input.name.startsWith("d_")) {
        const gradient = walk.gradientOf(data.outputs[input.name.slice(2)], op);
        assert(gradient !== undefined, `output ${input.name.slice(2)} of ${op.name} receives no gradient`);
        inputs[input.name] = gradient;
      } else if (input.role !== "parameter") {
        inputs[input.name] = data.inputs[input.name] ?? data.outputs[input.name];
        assert(inputs[input.name] !== undefined, `${op.name}: nothing is bound to ${input.name}`);
      }
    }
    const outputs: Record<string, number> = {};
    for (const output of backward.outputs) {
      if (!output.name.startsWith("d_")) continue;
      outputs[output.name] = walk.gradientValue(data.inputs[output.name.slice(2)]);
    }
    const emit = (part: K.KernelBackwardData["part"], own: Bound, suffix: { name: string; cost: string }) => {
      const parameters = part === "input" ? [] : Object.values(data.parameters).flat();
      walk.builder.add({
        name: `${op.name}${suffix.name}`,
        kind: "kernel'",
        pass: "backward",
        layer: op.layer,
        reads: [...new Set(Object.values(own.inputs))],
        writes: Object.values(own.outputs),
        after: walk.chain(parameters, walk.nextId),
        cost: `${op.cost}${suffix.cost}`,
        data: {
          kernel: data.kernel,
          part,
          ...own,
          parameters: data.parameters,
        } satisfies K.KernelBackwardData,
      });
    };
    const hasParameters = Object.keys(data.parameters).length > 0;
    if (walk.options.splitWeightGradients && hasParameters && Object.keys(outputs).length > 0) {
      const halves = splitBackward(backward);
      const carried = Object.fromEntries(
        halves.carried.map((name) => [name, walk.builder.value(`${op.name}'.${name}`, 0)]),
      );
      const reads = (kernel: Kernel, from: Readonly<Record<string, number>>) =>
        Object.fromEntries(
          Object.entries(from).filter(([name]) => kernel.inputs.some((i) => i.name === name)),
        );
      emit("input", { inputs: reads(halves.input, inputs), outputs: { ...outputs, ...carried } }, INPUT_HALF);
      emit("weight", { inputs: reads(halves.weight, { ...inputs, ...carried }), outputs: {} }, WEIGHT_HALF);
    } else emit("both", { inputs, outputs }, { name: "'", cost: "'" });
    for (const [name, gradient] of Object.entries(outputs))
      walk.contribute(data.inputs[name.slice(2)], gradient);
  },

  embed(op, walk) {
    const data = op.data as K.EmbedData;
    const gradient = walk.gradientOf(data.output, op);
    assert(gradient !== undefined, "the embedding receives no gradient");
    const after = walk.chain([data.embedding, data.positions ?? []].flat(), walk.nextId);
    walk.builder.add({
      name: `${op.name}'`,
      kind: "embed'",
      pass: "backward",
      reads: [data.tokens, gradient],
      writes: [],
      after,
      cost: `${op.cost}'`,
      data: { ...data, output: gradient } satisfies K.EmbedData,
    });
  },

  route(op, walk) {
    const forward = op.data as K.RouteData;
    const dWeights = walk.gradientOf(forward.weights, op);
    assert(dWeights !== undefined, `${op.name}: the gate weights receive no gradient`);
    const dLogits = walk.gradientValue(forward.logits);
    const statistics = walk.statistics.get(forward.routing);
    const reads = [forward.routing, forward.weights, dWeights];
    if (statistics !== undefined) reads.push(statistics);
    walk.builder.add({
      name: `${op.name}'`,
      kind: "route'",
      pass: "backward",
      layer: op.layer,
      reads,
      writes: [dLogits],
      cost: `${op.cost}'`,
      data: { forward, dWeights, dLogits, statistics } satisfies K.RouteBackwardData,
    });
    walk.contribute(forward.logits, dLogits);
  },

  // All chunks of one encode read the same rows: their gradients are scattered by one operator, emitted at chunk 0.
  encode(op, walk) {
    const data = op.data as K.EncodeData;
    const gradient = walk.gradientOf(data.send, op);
    assert(gradient !== undefined, `${op.name}: the encoded rows receive no gradient`);
    const collected = walk.encodeGradients.get(data.routing) ?? [];
    collected.unshift(gradient);
    walk.encodeGradients.set(data.routing, collected);
    if (data.chunk > 0) return;
    const dInput = walk.gradientValue(data.input);
    walk.builder.add({
      name: `${op.name}'`,
      kind: "encode'",
      pass: "backward",
      layer: op.layer,
      reads: [data.routing, ...collected],
      writes: [dInput],
      cost: `${op.cost}'`,
      data: { shape: data.shape, chunks: data.chunks, routing: data.routing, dSend: collected, dInput },
    });
    walk.contribute(data.input, dInput);
  },

  transfer(op, walk) {
    const data = op.data as K.TransferData;
    const gradient = walk.gradientOf(data.output, op);
    assert(gradient !== undefined, `${op.name}: the rows received have no gradient`);
    const output = walk.gradientValue(data.input);
    walk.builder.add({
      name: `${op.name}'`,
      kind: "transfer",
      stream: "network",
      pass: "backward",
      layer: op.layer,
      chunk: op.chunk,
      reads: [data.routing, data.counts, gradient],
      writes: [output],
      cost: `${op.cost}'`,
      data: {
        shape: data.shape,
        chunk: data.chunk,
        chunks: data.chunks,
        direction: data.direction === "to-experts" ? "to-tokens" : "to-experts",
        bringsCounts: false,
        routing: data.routing,
        counts: data.counts,
        input: gradient,
        output,
      } satisfies K.TransferData,
    });
    walk.contribute(data.input, output);
  },

  expert(op, walk) {
    const forward = op.data as K.ExpertData;
    const dOutput = walk.gradientOf(forward.output, op);
    assert(dOutput !== undefined, `${op.name}: the experts' outputs receive no gradient`);
    const dArrived = walk.gradientValue(forward.arrived);
    const base = { kind: "expert'", pass: "backward", layer: op.layer, chunk: op.chunk } as const;
    // "{e}" stands for all local experts: chunks of one layer accumulate into the same gradients.
    const parameters = Object.values(forward.parameters).flat();
    if (walk.options.splitWeightGradients) {
      const carried = walk.builder.value(`${op.name}'.carried`, 0);
      walk.builder.add({
        ...base,
        name: `${op.name}${INPUT_HALF.name}`,
        reads: [forward.counts, forward.saved, dOutput],
        writes: [dArrived, carried],
        cost: `${op.cost}${INPUT_HALF.cost}`,
        data: { part: "input", forward, dOutput, dArrived, carried } satisfies K.ExpertBackwardData,
      });
      walk.builder.add({
        ...base,
        name: `${op.name}${WEIGHT_HALF.name}`,
        reads: [forward.counts, forward.saved, carried],
        writes: [],
        after: walk.chain(parameters, walk.nextId),
        cost: `${op.cost}${WEIGHT_HALF.cost}`,
        data: { part: "weight", forward, carried } satisfies K.ExpertBackwardData,
      });
    } else
      walk.builder.add({
        ...base,
        name: `${op.name}'`,
        reads: [forward.counts, forward.saved, dOutput],
        writes: [dArrived],
        after: walk.chain(parameters, walk.nextId),
        cost: `${op.cost}'`,
        data: { part: "both", forward, dOutput, dArrived } satisfies K.ExpertBackwardData,
      });
    walk.contribute(forward.arrived, dArrived);
  },

  decode(op, walk) {
    const forward = op.data as K.DecodeData;
    const dOutput = walk.gradientOf(forward.output, op);
    assert(dOutput !== undefined, `${op.name}: the output receives no gradient`);
    const dRows = forward.rows.map((rows) => walk.gradientValue(rows));
    const dWeights = walk.gradientValue(forward.weights);
    const dScale = forward.scale === undefined ? undefined : walk.gradientValue(forward.scale);
    const reads = [forward.routing, forward.weights, ...forward.rows, dOutput];
    if (forward.scale !== undefined) reads.push(forward.scale);
    walk.builder.add({
      name: `${op.name}'`,
      kind: "decode'",
      pass: "backward",
      layer: op.layer,
      reads,
      writes: [...dRows, dWeights, ...(dScale === undefined ? [] : [dScale])],
      cost: `${op.cost}'`,
      data: { forward, dOutput, dRows, dWeights, dScale } satisfies K.DecodeBackwardData,
    });
    forward.rows.forEach((rows, i) => walk.contribute(rows, dRows[i]));
    walk.contribute(forward.weights, dWeights);
    if (forward.scale !== undefined && dScale !== undefined) walk.contribute(forward.scale, dScale);
    // The residual stream passes the gradient on unchanged: the same value, no copy.
    walk.contribute(forward.base, dOutput);
  },

  // Statistics take no part in the chain rule: they enter the gate's gradient as constants.
  statistics(op, walk) {
    const data = op.data as K.StatisticsData;
    for (const routing of data.routings) walk.statistics.set(routing, data.output);
  },
};
