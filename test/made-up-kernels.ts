/** Small programs of kernels, sums, and operators that are neither, all over [T, WIDTH]: what is fused in tests. */
import { singleCommunicator } from "../src/comm/single.js";
import type { Engine } from "../src/engine/engine.js";
import * as k from "../src/kernel/build.js";
import type { Dim, Expr, Kernel } from "../src/kernel/kernel.js";
import { kernelWork } from "../src/kernel/work.js";
import { tensor } from "../src/model/parts/part.js";
import { ProgramBuilder } from "../src/program/builder.js";
import type { FusedProgram } from "../src/program/fuse.js";
import type { MoeShape } from "../src/program/kinds.js";
import type { Operator } from "../src/program/operator.js";
import type { Program } from "../src/program/program.js";
import { ACTIONS } from "../src/run/actions/index.js";
import { type ActionTable, type Run, type Services, computing } from "../src/run/context.js";
import { Memory } from "../src/run/memory.js";
import { Weights } from "../src/run/weights.js";

export const [ROWS, WIDTH] = [3, 2];
const DIMS: readonly Dim[] = ["T", WIDTH];
const SYMBOLS = new Map([
  ["T", ROWS],
  ["R", 1],
]);
export const NUM_WEIGHTS = 3;
const world = singleCommunicator();

/** With weights w0, w1 …, [WIDTH]. */
export function servicesOf(engine: Engine): Services {
  const parameters = Array.from({ length: NUM_WEIGHTS }, (_, i) => tensor(`w${i}`, [WIDTH], "normal"));
  const weights = new Weights(engine, parameters, { epRank: 0, epSize: 1 });
  weights.initialize(3, 1);
  return { engine, memory: new Memory(engine), weights, world, ep: world, replicas: world };
}

export const x = (name: string, dims = DIMS): Expr => k.input(name, dims);
const affine = k.kernel("affine", { y: k.add(k.mul(x("a"), k.parameter("w", [WIDTH])), x("a")) });
export const mix = k.kernel("mix", { y: k.sub(x("a"), k.mul(x("b"), k.scalar(0.5))), z: k.tanh(x("a")) });

/** Adds operators that read and write [T, WIDTH]. */
export class Bench {
  readonly builder = new ProgramBuilder();
  readonly input = this.value("input");

  value(name: string, width = WIDTH): number {
    return this.builder.value(name, ROWS * width * 4);
  }

  kernel(
    name: string,
    kernel: Kernel,
    inputs: Record<string, number>,
    parameters: Record<string, string> = {},
  ) {
    const plain = kernel.outputs.map((output) => [output.name, this.value(`${name}.${output.name}`)]);
    const outputs = Object.fromEntries(plain) as Record<string, number>;
    const spans = Object.entries(parameters).map(([inner, of]) => [inner, [of]]);
    this.builder.add({
      name,
      kind: "kernel",
      reads: [...new Set(Object.values(inputs))],
      writes: Object.values(outputs),
      work: { class: "mlp", ...kernelWork(kernel, SYMBOLS) },
      data: { kernel, inputs, outputs, parameters: Object.fromEntries(spans) as Record<string, string[]> },
    });
    return outputs;
  }

  affine(name: string, a: number, weight = 0): number {
    return this.kernel(name, affine, { a }, { w: `w${weight}` }).y;
  }

  sum(name: string, operands: readonly number[]): number {
    const output = this.value(name);
    const work = { class: "sum", flops: 0, bytes: 4 } as const;
    this.builder.add({
      name,
      kind: "sum",
      reads: operands,
      writes: [output],
      work,
      data: { operands, output },
    });
    return output;
  }

  /** No kernel: doubles its first operand. A transfer moves something, or (one rank) nothing. */
  opaque(name: string, kind: "encode" | "statistics" | "transfer", reads: readonly number[]): number {
    const output = this.value(name);
    const shape = { epSize: 1 } as MoeShape;
    const [input, routing = input] = reads;
    const work = { class: kind === "statistics" ? kind : "encode", flops: 0, bytes: 4 } as const;
    const common = { name, reads, writes: [output], work };
    const chunk = { shape, chunk: 0, chunks: 1 };
    if (kind === "encode")
      this.builder.add({ ...common, kind, data: { ...chunk, input, routing, send: output } });
    else if (kind === "statistics")
      this.builder.add({ ...common, kind, data: { routings: reads.map((read) => [read]), output } });
    else {
      const data = { ...chunk, direction: "to-tokens", bringsCounts: false } as const;
      this.builder.add({ ...common, kind, data: { ...data, input, routing, counts: input, output } });
    }
    return output;
  }

  get program(): Program {
    return this.builder.build("made up");
  }
}

const doubling = ({ reads, writes }: Operator): Run =>
  computing((context) => {
    const { data, dims } = context.tensor(reads[0]);
    context.writeTensor(writes[0], dims).data.set(data.map((v) => 2 * v));
  });
export const actions: ActionTable = {
  ...ACTIONS,
  encode: doubling,
  statistics: doubling,
  transfer: doubling,
};

export const namesOf = ({ program }: FusedProgram): string[] => program.operators.map(({ name }) => name);
