/**
 * A program made ready on a rank, once: kernels compiled, operators bound to their parameters, values counted. It runs
 * under any schedule; another schedule is another order, nothing is compiled or derived again.
 */
import { InputError, assert } from "../core/errors.js";
import type { Symbols } from "../kernel/symbols.js";
import { applyRule } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { whyIllegal } from "../program/validate.js";
import { eventOperator } from "../timeline/timeline.js";
import { ACTIONS } from "./actions/index.js";
import type { ActionTable, Services } from "./context.js";
import { type Bound, Execution, type RunResult } from "./execution.js";
import { type PeakMemory, peakMemory } from "./peak-memory.js";

export interface SessionOptions {
  /** Values whose content is still wanted after a run. */
  readonly keep?: Iterable<number>;
  /** Content of the program's state values; operators update it in place, and it stays for the next run. */
  readonly state?: ReadonlyMap<number, unknown>;
  /**
   * "fixed" compiles weights into the kernels, in the form that the services say, and packs them: quicker for few rows, but they must
   * not change any more. Default: as the services say, or else "inputs".
   */
  readonly weights?: "inputs" | "fixed";
  /** Other actions than the usual ones. */
  readonly actions?: ActionTable;
}

export class Session {
  readonly #bound: Bound;
  readonly #keep: ReadonlySet<number>;
  readonly #legal = new WeakSet<Schedule>();

  constructor(
    services: Services,
    readonly program: Program,
    options: SessionOptions = {},
  ) {
    const { keep = [], state = new Map<number, unknown>(), actions = ACTIONS } = options;
    const { weights = services.hasFixedWeights ? "fixed" : "inputs" } = options;
    this.#keep = new Set(keep);
    for (const { id, name, isState } of program.values)
      assert(!isState || state.has(id), `the state ${name} is bound by whoever opens the session`);
    const lent = { ...services, hasFixedWeights: weights === "fixed" };
    this.#bound = {
      program,
      services: lent,
      runs: program.operators.map((op) => applyRule(actions, op, lent)),
      labels: program.operators.map(eventOperator),
      reads: program.operators.map(({ reads }) => [...new Set(reads)]),
      numReaders: countReaders(program, [...this.#keep, ...state.keys()]),
      state: new Map([...state].map(([value, content]) => [value, { content, allocations: [] }])),
    };
  }

  /**
   * @param feeds contents of the program's input values
   * @throws InputError when the schedule is not legal for the program, with the reason
   * @throws CommError when a peer does not answer or is lost; the message names the operator this rank waited in
   */
  run(schedule: Schedule, feeds: ReadonlyMap<number, unknown>): RunResult {
    if (!this.#legal.has(schedule)) {
      const reason = whyIllegal(this.program, schedule);
      if (reason !== undefined)
        throw new InputError(`The schedule ${schedule.policy} is not legal: ${reason}`);
      this.#legal.add(schedule);
    }
    return new Execution(this.#bound, schedule).run(feeds);
  }

  /** Activation memory that a run will need at most, as far as sizes are known beforehand. */
  peakMemory(schedule: Schedule, symbols: Symbols): PeakMemory {
    return peakMemory(this.program, schedule, { keep: this.#keep, symbols });
  }
}

/** Kept values and states have one reader that never comes. */
function countReaders(program: Program, lasting: readonly number[]): number[] {
  const readers = new Array<number>(program.values.length).fill(0);
  for (const op of program.operators) for (const value of new Set(op.reads)) readers[value]++;
  for (const value of lasting) readers[value]++;
  return readers;
}
