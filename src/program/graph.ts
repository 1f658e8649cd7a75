/** The dependencies of a program in both directions. They are kept per program, since placing and simulating walk them thousands of times. */
import { type Program, dependencies } from "./program.js";

export interface Graph {
  /** What each operator waits for, by operator id. */
  readonly before: readonly (readonly number[])[];
  /** What waits for it. */
  readonly after: readonly (readonly number[])[];
}

const graphs = new WeakMap<Program, Graph>();

export function graphOf(program: Program): Graph {
  let graph = graphs.get(program);
  if (graph === undefined) {
    const before = dependencies(program);
    const after: number[][] = program.operators.map(() => []);
    before.forEach((ids, id) => ids.forEach((earlier) => after[earlier].push(id)));
    graphs.set(program, (graph = { before, after }));
  }
  return graph;
}

/** Sets of operators as bits: `ancestors[id]` are all that must run before `id`. */
export class Ancestors {
  readonly #words: number;
  readonly #bits: Uint32Array;

  constructor({ before }: Graph) {
    this.#words = (before.length + 31) >> 5;
    this.#bits = new Uint32Array(this.#words * before.length);
    before.forEach((ids, id) => {
      const row = id * this.#words;
      for (const earlier of ids) {
        const other = earlier * this.#words;
        for (let w = 0; w < this.#words; w++) this.#bits[row + w] |= this.#bits[other + w];
        this.#bits[row + (earlier >> 5)] |= 1 << (earlier & 31);
      }
    });
  }

  /** Whether `earlier` must run before `id`. */
  has(id: number, earlier: number): boolean {
    return ((this.#bits[id * this.#words + (earlier >> 5)] >>> (earlier & 31)) & 1) === 1;
  }

  /** How many operators must run before `id`. */
  count(id: number): number {
    let total = 0;
    for (let w = id * this.#words; w < (id + 1) * this.#words; w++) {
      let bits = this.#bits[w];
      for (; bits !== 0; bits &= bits - 1) total++;
    }
    return total;
  }
}

const ancestry = new WeakMap<Graph, Ancestors>();

export function ancestorsOf(program: Program): Ancestors {
  const graph = graphOf(program);
  let found = ancestry.get(graph);
  if (found === undefined) ancestry.set(graph, (found = new Ancestors(graph)));
  return found;
}
