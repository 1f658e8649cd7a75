import { assert } from "../core/errors.js";
import type { Operator, Pass, Program, Stream, Value } from "./program.js";

/** An operator to be appended: what has a default may be left out. */
export interface OperatorSpec {
  readonly name: string;
  readonly kind: string;
  readonly stream?: Stream;
  readonly pass?: Pass;
  readonly layer?: number;
  readonly chunk?: number;
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  readonly after?: readonly number[];
  readonly cost: string;
  readonly data?: unknown;
}

/** Appends operators in topological order; the finished program is immutable plain data. */
export class ProgramBuilder {
  readonly #operators: Operator[] = [];
  readonly #values: Value[] = [];
  readonly #names = new Set<string>();

  /** Starts from `base` (its operators and values keep their ids), or from nothing. */
  constructor(base?: Program) {
    if (base === undefined) return;
    this.#operators.push(...base.operators);
    this.#values.push(...base.values);
    for (const op of base.operators) this.#names.add(op.name);
  }

  value(name: string, bytes: number): number {
    this.#values.push({ id: this.#values.length, name, bytes });
    return this.#values.length - 1;
  }

  bytesOf(value: number): number {
    return this.#values[value].bytes;
  }

  nameOf(value: number): string {
    return this.#values[value].name;
  }

  add(spec: OperatorSpec): number {
    assert(!this.#names.has(spec.name), `operator names are unique: ${spec.name}`);
    this.#names.add(spec.name);
    const id = this.#operators.length;
    this.#operators.push({
      id,
      name: spec.name,
      kind: spec.kind,
      stream: spec.stream ?? "compute",
      pass: spec.pass ?? "forward",
      layer: spec.layer,
      chunk: spec.chunk,
      reads: spec.reads,
      writes: spec.writes,
      after: spec.after ?? [],
      cost: spec.cost,
      data: spec.data,
    });
    return id;
  }

  build(name: string): Program {
    return { name, operators: this.#operators, values: this.#values };
  }
}
