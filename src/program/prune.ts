/** What of a program is needed for some of its values. */
import { ProgramBuilder } from "./builder.js";
import type { Program } from "./program.js";

/**
 * The operators that the wanted values follow from, in their order; values keep their ids.
 * @param name of the new program
 */
export function pruneProgram(program: Program, wanted: Iterable<number>, name: string): Program {
  const isWanted = new Set(wanted);
  const kept = new Set<number>();
  for (const { id, reads, writes, after } of program.operators.toReversed()) {
    if (!kept.has(id) && !writes.some((value) => isWanted.has(value))) continue;
    kept.add(id);
    for (const value of reads) isWanted.add(value);
    for (const before of after) kept.add(before);
  }
  const builder = new ProgramBuilder({ ...program, operators: [] });
  const ids = new Map<number, number>();
  for (const op of program.operators)
    if (kept.has(op.id))
      ids.set(op.id, builder.add({ ...op, after: op.after.map((id) => ids.get(id) ?? 0) }));
  return builder.build(name);
}
