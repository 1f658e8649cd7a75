/**
 * Several micro-batches in one program: copies of a program one after another, which share nothing but weights and
 * gradients (and inputs that are said to be common). A schedule may overlap one copy's transfers with another's compute.
 */
import { assert } from "../core/errors.js";
import { ProgramBuilder } from "./builder.js";
import { gradientsWritten } from "./gradients.js";
import type { Program } from "./program.js";
import { renumber } from "./renumber.js";

export interface RepeatedProgram {
  readonly program: Program;
  /** By copy, then by id of a value in the original: its id in the copy. The first copy keeps its ids. */
  readonly values: readonly (readonly number[])[];
}

export interface RepeatOptions {
  /** Inputs that all copies read, such as the scales of the auxiliary losses. Default: each copy has inputs of its own. */
  readonly shared?: ReadonlySet<number>;
}

/**
 * `times` copies of a program in one. Names, and branches, of the second copy begin with "m1.", of the third with "m2.".
 * What adds to one parameter's gradient does so copy after copy, in the order of the original: under any schedule the
 * gradients have the bits of `times` runs of the original one after another. Gradient reduction belongs behind the
 * copies, not into them.
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
    assert(!writes.some((value) => shared.has(value)), `${name} writes a value that all copies should share`);
    const isReduction = kind === "reduce-scatter" || kind === "reduce-sum" || kind === "all-gather";
    assert(!isReduction, `${name} reduces gradients: that comes once, after the last copy`);
  }
  const lastWriter = lastWriters(program);
  const builder = new ProgramBuilder(program);
  const values = [program.values.map(({ id }) => id)];
  for (let copy = 1; copy < times; copy++) {
    const prefix = `m${copy}.`;
    const ids = program.values.map(({ id, name, bytes, isState }) => {
      if (shared.has(id)) return id;
      return isState ? builder.state(prefix + name, bytes) : builder.value(prefix + name, bytes);
    });
    const to = (value: number): number => ids[value];
    const first = builder.nextId;
    const begun = new Set<string>();
    for (const op of program.operators) {
      const after = new Set(op.after.map((id) => first + id));
      for (const family of gradientsWritten(op)) {
        if (!begun.has(family))
          after.add(first - program.operators.length + (lastWriter.get(family) as number));
        begun.add(family);
      }
      builder.add({
        ...op,
        name: prefix + op.name,
        branch: op.branch === undefined ? undefined : prefix + op.branch,
        microBatch: copy,
        reads: op.reads.map(to),
        writes: op.writes.map(to),
        after: [...after].sort((a, b) => a - b),
        data: renumber(op, to),
      });
    }
    values.push(ids);
  }
  return { program: builder.build(`${program.name} × ${times}`), values };
}

/** The last operator that adds to the gradients of each family: the end of its chain. */
function lastWriters(program: Program): ReadonlyMap<string, number> {
  const last = new Map<string, number>();
  for (const op of program.operators) for (const family of gradientsWritten(op)) last.set(family, op.id);
  return last;
}
