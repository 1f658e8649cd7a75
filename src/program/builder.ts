import { assert } from "../core/errors.js";
import type { KindData } from "./kinds.js";
import { type Kind, type Operator, type Pass, STREAM_OF } from "./operator.js";
import type { Program, Value } from "./program.js";
import { type Work, costKey } from "./work.js";

/** An operator to be appended: what has a default may be left out. */
export interface OperatorSpec<K extends Kind> {
  readonly name: string;
  readonly kind: K;
  /** Default forward. */
  readonly pass?: Pass;
  readonly layer?: number;
  readonly chunk?: number;
  readonly microBatch?: number;
  readonly branch?: string;
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  readonly after?: readonly number[];
  readonly work: Work;
  readonly data: KindData[K];
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

  /** A value that the session binds and keeps between runs. */
  state(name: string, bytes: number): number {
    this.#values.push({ id: this.#values.length, name, bytes, isState: true });
    return this.#values.length - 1;
  }

  bytesOf(value: number): number {
    return this.#values[value].bytes;
  }

  nameOf(value: number): string {
    return this.#values[value].name;
  }

  /** The id that the next operator gets. */
  get nextId(): number {
    return this.#operators.length;
  }

  add<K extends Kind>(spec: OperatorSpec<K>): number {
    this.#push(this.nextId, spec);
    return this.nextId - 1;
  }

  /** Puts an operator in another's place; what it writes beyond that must be new values. */
  replace<K extends Kind>(id: number, spec: OperatorSpec<K>): void {
    this.#names.delete(this.#operators[id].name);
    this.#push(id, spec);
  }

  #push<K extends Kind>(id: number, spec: OperatorSpec<K>): void {
    assert(!this.#names.has(spec.name), `operator names are unique: ${spec.name}`);
    this.#names.add(spec.name);
    const pass = spec.pass ?? "forward";
    // The compiler cannot see that kind and data of a spec belong together; `OperatorSpec` says so.
    this.#operators[id] = {
      ...spec,
      id,
      stream: STREAM_OF[spec.kind],
      pass,
      after: spec.after ?? [],
      cost: costKey({ pass, work: spec.work }),
    } as unknown as Operator;
  }

  build(name: string): Program {
    return { name, operators: [...this.#operators], values: [...this.#values] };
  }
}
