/**
 * Several micro-batches in one program: copies of a program side by side, which share nothing but weights and
 * gradients (and inputs that are said to be common). A schedule may overlap one copy's transfers with another's compute.
 */
import { assert } from "../core/errors.js";
import { ProgramBuilder } from "./builder.js";
import { gradientsWritten } from "./gradients.js";
import type { Operator, OperatorOf } from "./operator.js";
import type { Program } from "./program.js";
import { renumber } from "./renumber.js";

export interface RepeatedProgram {
  readonly program: Program;
  /** By copy, then by id of a value in the original: its id in the copy. The first copy keeps its ids. */
  readonly values: readonly (readonly number[])[];
}

export interface RepeatOptions {
  /**
   * Values that all copies have in common: inputs such as the scales of the auxiliary losses, and statistics, which then count the
   * routings of all copies. Default: each copy has values of its own.
   */
  readonly shared?: ReadonlySet<number>;
}

/**
 * `times` copies of a program in one, breadth first: each operator's copies follow one another. Names, and branches, of the second
 * copy begin with "m1.", of the third with "m2.". What adds to one parameter's gradient does so in that order, under any
 * schedule: so the bits do not depend on it, and a gradient is complete while what comes before it still goes backward. Gradient
 * reduction belongs behind the copies, not into them.
 */
export function repeatProgram(
  program: Program,
  times: number,
  { shared = new Set() }: RepeatOptions = {},
): RepeatedProgram {
  assert(
    Number.isInteger(times) && times >= 1,
    `a program is repeated a whole number of times, not ${times}`,
  );
  for (const { name, kind, writes } of program.operators) {
    const isCommon = writes.some((value) => shared.has(value));
    assert(!isCommon || kind === "statistics", `${name} writes a value that all copies should share`);
    const isReduction =
      kind === "reduce-scatter" || kind === "reduce-sum" || kind === "all-gather" || kind === "update";
    assert(!isReduction, `${name} reduces gradients: that comes once, after the last copy`);
  }
  const builder = new ProgramBuilder({ ...program, operators: [] });
  const values = [program.values.map(({ id }) => id)];
  for (let copy = 1; copy < times; copy++) {
    const prefix = prefixOf(copy);
    values.push(
      program.values.map(({ id, name, bytes, isState }) => {
        if (shared.has(id)) return id;
        return isState ? builder.state(prefix + name, bytes) : builder.value(prefix + name, bytes);
      }),
    );
  }
  /** By copy, then by id of an operator in the original. */
  const ids = values.map((): number[] => []);
  const lastWriter = new Map<string, number>();
  for (const op of program.operators) {
    if (op.kind === "statistics" && shared.has(op.data.output)) {
      const id = builder.add(countingAll(op, values));
      for (const ofCopy of ids) ofCopy.push(id);
      continue;
    }
    values.forEach((ofCopy, copy) => {
      const to = (value: number): number => ofCopy[value];
      const after = new Set(op.after.map((id) => ids[copy][id]));
      const families = gradientsWritten(op);
      for (const family of families) {
        const last = lastWriter.get(family);
        if (last !== undefined) after.add(last);
      }
      const id = builder.add({
        ...(copy === 0 ? op : named(op, copy)),
        reads: op.reads.map(to),
        writes: op.writes.map(to),
        after: [...after].sort((a, b) => a - b),
        data: renumber(op, to),
      });
      ids[copy].push(id);
      for (const family of families) lastWriter.set(family, id);
    });
  }
  return { program: builder.build(times === 1 ? program.name : `${program.name} × ${times}`), values };
}

function prefixOf(copy: number): string {
  return `m${copy}.`;
}

function named(op: Operator, copy: number): Operator {
  const prefix = prefixOf(copy);
  const branch = op.branch === undefined ? undefined : prefix + op.branch;
  return { ...op, name: prefix + op.name, branch, microBatch: copy };
}

/** Once for all copies: of each routing, those of every copy. */
function countingAll(
  op: OperatorOf<"statistics">,
  values: RepeatedProgram["values"],
): OperatorOf<"statistics"> {
  const { routings, output } = op.data;
  const ofCopies = routings.map((of) => values.flatMap((ofCopy) => of.map((value) => ofCopy[value])));
  return { ...op, reads: ofCopies.flat(), data: { routings: ofCopies, output } };
}
