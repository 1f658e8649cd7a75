/**
 * Local search from a given order. Where the compute stream would wait for a transfer, three changes are tried: run a later
 * operator in the gap, run what the transfer depends on sooner, send other transfers after it. Each is simulated and kept if
 * faster. Deterministic, with a limit on attempts instead of on time, so that the result does not depend on the machine's
 * speed.
 */
import { type Ancestors, ancestorsOf, graphOf } from "../program/graph.js";
import type { Program } from "../program/program.js";
import { type ListResult, listSchedule, tails } from "./list-schedule.js";

export interface ImproveOptions {
  readonly cost: Float64Array;
  /** Most orders to simulate. */
  readonly attempts: number;
  /** Stops when no schedule can be faster. */
  readonly boundMs: number;
}

type Holds = readonly (readonly [number, number])[];

interface Candidate {
  readonly sequence: readonly number[];
  readonly holds: Holds;
  readonly result: ListResult;
}

/** How far from a gap operators are tried. */
const REACH = 48;

export function improve(program: Program, sequence: readonly number[], options: ImproveOptions): ListResult {
  return new LocalSearch(program, options).run(sequence);
}

class LocalSearch {
  readonly #ancestors: Ancestors;
  readonly #urgency: Float64Array;
  #attempts = 0;

  constructor(
    readonly program: Program,
    readonly options: ImproveOptions,
  ) {
    this.#ancestors = ancestorsOf(program);
    this.#urgency = tails(graphOf(program), options.cost);
  }

  run(sequence: readonly number[]): ListResult {
    let best = this.#simulate(sequence, []);
    for (let improved = true; improved && best.result.ms > this.options.boundMs + 1e-6;) {
      improved = false;
      for (const { waiting } of largest(best.result.gaps)) {
        const better = this.#around(best, waiting);
        if (better === undefined) continue;
        best = better;
        improved = true;
        break;
      }
    }
    return best.result;
  }

  #simulate(sequence: readonly number[], holds: Holds): Candidate {
    this.#attempts++;
    const given = { cost: this.options.cost, urgency: this.#urgency };
    return { sequence, holds, result: listSchedule(this.program, { ...given, sequence, holds }) };
  }

  /** The first better order among those that change something around a gap. */
  #around(best: Candidate, waiting: number): Candidate | undefined {
    const at = best.sequence.indexOf(waiting);
    const awaited = this.#transfersBefore(waiting);
    for (const [from, to] of this.#moves(best.sequence, at, awaited)) {
      if (this.#attempts >= this.options.attempts) return undefined;
      const sequence = moved(best.sequence, from, to);
      const found = this.#simulate(sequence, best.holds);
      if (found.result.ms < best.result.ms - 1e-9) return found;
    }
    for (const holds of this.#heldBack(best, awaited)) {
      if (this.#attempts >= this.options.attempts) return undefined;
      const found = this.#simulate(best.sequence, holds);
      if (found.result.ms < best.result.ms - 1e-9) return found;
    }
    return undefined;
  }

  #transfersBefore(id: number): number[] {
    const { before } = graphOf(this.program);
    return before[id].filter((b) => this.program.operators[b].stream !== "compute");
  }

  *#moves(
    sequence: readonly number[],
    at: number,
    awaited: readonly number[],
  ): Generator<readonly [from: number, to: number]> {
    // Into the gap: a later operator that depends on nothing between.
    for (let from = at + 1; from < Math.min(sequence.length, at + REACH); from++)
      if (this.#mayMove(sequence, from, at)) yield [from, at];
    // Sooner: an operator that the awaited transfers depend on.
    for (const transfer of awaited)
      for (let from = at - 1; from >= Math.max(0, at - REACH); from--) {
        if (!this.#ancestors.has(transfer, sequence[from])) continue;
        for (let to = from - 1; to >= Math.max(0, from - REACH) && this.#mayMove(sequence, from, to); to--)
          yield [from, to];
      }
  }

  /** Whether the operator at `from` may run at `to` < `from`: nothing between leads to it. */
  #mayMove(sequence: readonly number[], from: number, to: number): boolean {
    for (let i = to; i < from; i++) if (this.#ancestors.has(sequence[from], sequence[i])) return false;
    return true;
  }

  /** Sends a transfer that was sent shortly before an awaited one after it instead, where no dependency forbids it. */
  *#heldBack(best: Candidate, awaited: readonly number[]): Generator<Holds> {
    for (const transfer of awaited) {
      const queue = best.result.order[this.program.operators[transfer].stream];
      const at = queue.indexOf(transfer);
      for (let i = at - 1; i >= Math.max(0, at - 3); i--) {
        const other = queue[i];
        const isBound =
          this.#ancestors.has(transfer, other) ||
          best.holds.some(([earlier]) => earlier === other) ||
          graphOf(this.program).after[other].some((id) => this.#ancestors.has(transfer, id));
        if (!isBound) yield [...best.holds, [transfer, other]];
      }
    }
  }
}

/** Gaps from the longest, one per operator. */
function largest(gaps: ListResult["gaps"]): { waiting: number; ms: number }[] {
  const byOperator = new Map<number, number>();
  for (const { waiting, ms } of gaps)
    if (waiting !== undefined) byOperator.set(waiting, (byOperator.get(waiting) ?? 0) + ms);
  return [...byOperator].map(([waiting, ms]) => ({ waiting, ms })).sort((a, b) => b.ms - a.ms);
}

function moved(sequence: readonly number[], from: number, to: number): number[] {
  const next = [...sequence];
  const [id] = next.splice(from, 1);
  next.splice(to, 0, id);
  return next;
}
