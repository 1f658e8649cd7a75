/** Operators in place of several: their kernels in one, their work together. */
import { type BoundKernel, composeKernels } from "../kernel/compose.js";
import type { Kernel } from "../kernel/kernel.js";
import type { KernelData, ParameterSpan } from "./kinds.js";
import type { Operator } from "./operator.js";
import type { Program } from "./program.js";
import type { Work } from "./work.js";

/** One operator, or several that become one, in an order in which they may run. */
export type Group = readonly Operator[];

/** Makes operators of groups. Groups that are alike have one kernel. */
export class FusedOperators {
  readonly #kernels: readonly (KernelData | undefined)[];
  readonly #keep: ReadonlySet<number>;
  readonly #known = new Map<string, BoundKernel>();
  readonly #ids = new Map<Kernel, number>();
  readonly #groupOf = new Map<number, Group>();
  readonly #readers: readonly Operator[][];
  readonly #writers = new Map<number, number>();

  constructor(
    program: Program,
    of: {
      /** Of operators that may be in groups of several, by operator id. */
      readonly kernels: readonly (KernelData | undefined)[];
      /** Of all operators. */
      readonly groups: readonly Group[];
      /** Values that are wanted whoever reads them. */
      readonly keep: ReadonlySet<number>;
    },
  ) {
    this.#kernels = of.kernels;
    this.#keep = of.keep;
    for (const group of of.groups) for (const { id } of group) this.#groupOf.set(id, group);
    this.#readers = program.values.map(() => []);
    for (const op of program.operators) {
      for (const value of op.reads) this.#readers[value].push(op);
      for (const value of op.writes) this.#writers.set(value, op.id);
    }
  }

  /** Whether only those read a value that are one with who writes it. */
  isInside(value: number): boolean {
    const writer = this.#writers.get(value);
    const readers = this.#readers[value];
    if (writer === undefined || readers.length === 0 || this.#keep.has(value)) return false;
    const group = this.#groupOf.get(writer) as Group;
    return group.length > 1 && readers.every(({ id }) => this.#groupOf.get(id) === group);
  }

  /** @returns the operator in place of a group, its values by their old ids, without `after` */
  operatorOf(members: Group): Operator {
    const written = new Set(members.flatMap(({ writes }) => writes));
    const branches = new Set(members.flatMap(({ branch }) => branch ?? []));
    return {
      ...members[0],
      kind: "kernel",
      name: joined(members.map(({ name }) => name)),
      branch: branches.size === 1 ? [...branches][0] : undefined,
      reads: [...new Set(members.flatMap(({ reads }) => reads))].filter((value) => !written.has(value)),
      writes: [...written].filter((value) => !this.isInside(value)),
      work: sumOf(members),
      data: this.#dataOf(members.map(({ id }) => this.#kernels[id] as KernelData)),
    };
  }

  #dataOf(members: readonly KernelData[]): KernelData {
    const values = new Numbering<number>();
    const spans = new Numbering<string>();
    const spanOf: ParameterSpan[] = [];
    const bound = members.map(({ kernel, inputs, outputs, parameters }): BoundKernel => ({
      kernel,
      inputs: mapped(inputs, (value) => values.of(value)),
      outputs: mapped(outputs, (value) => values.of(value)),
      parameters: mapped(parameters, (span) => {
        const number = spans.of(JSON.stringify(span));
        spanOf[number] = span;
        return number;
      }),
    }));
    const wanted = members
      .flatMap(({ outputs }) => Object.values(outputs))
      .filter((value) => !this.isInside(value))
      .map((value) => values.of(value));
    const composed = this.#composed(bound, wanted);
    return {
      kernel: composed.kernel,
      inputs: mapped(composed.inputs, (number) => values.items[number]),
      outputs: mapped(composed.outputs, (number) => values.items[number]),
      parameters: mapped(composed.parameters, (number) => spanOf[number]),
    };
  }

  #composed(members: readonly BoundKernel[], wanted: readonly number[]): BoundKernel {
    const numbered = members.map(({ kernel, ...bound }) => {
      let id = this.#ids.get(kernel);
      if (id === undefined) this.#ids.set(kernel, (id = this.#ids.size));
      return { id, ...bound };
    });
    const key = JSON.stringify([numbered, wanted]);
    let composed = this.#known.get(key);
    if (composed === undefined) {
      const name = joined(members.map(({ kernel }) => kernel.name));
      this.#known.set(key, (composed = composeKernels(name, members, new Set(wanted))));
    }
    return composed;
  }
}

/** Numbers of things in the order in which they come. */
class Numbering<T> {
  readonly items: T[] = [];
  readonly #numbers = new Map<T, number>();

  of(item: T): number {
    let number = this.#numbers.get(item);
    if (number === undefined) {
      number = this.items.push(item) - 1;
      this.#numbers.set(item, number);
    }
    return number;
  }
}

function mapped<A, B>(record: Readonly<Record<string, A>>, to: (item: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, item]) => [name, to(item)]));
}

/** "L3.attention+L3.gate"; of many the first and the last. */
function joined(names: readonly string[]): string {
  return names.length <= 3 ? names.join("+") : `${names[0]}+…+${names[names.length - 1]}`;
}

/** The work of all, of the class of the heaviest. */
function sumOf(members: readonly { readonly work: Work }[]): Work {
  const works = members.map(({ work }) => work);
  const heaviest = works.reduce((a, b) =>
    b.flops > a.flops || (b.flops === a.flops && b.bytes > a.bytes) ? b : a,
  );
  const total = (of: "flops" | "bytes"): number => works.reduce((sum, work) => sum + work[of], 0);
  return { class: heaviest.class, flops: total("flops"), bytes: total("bytes") };
}
