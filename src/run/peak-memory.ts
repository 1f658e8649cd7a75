/** Activation memory of a program under a schedule, computed before anything runs. */
import type { Symbols } from "../kernel/symbols.js";
import { type Spread, type Written, footprint } from "../program/footprint.js";
import type { Operator, Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { Stepper, stepsOf } from "../program/stepper.js";

export interface PeakMemory {
  /** Most bytes of values alive at a time, and of what the operator of that moment needs beside them. */
  readonly bytes: number;
  /** The operator at which the peak is reached. */
  readonly operator: string;
  /** Most that an operator needs in the engine's own memory. */
  readonly engineBytes: number;
}

/** Memory of a value, or shared by several. */
interface Piece {
  readonly bytes: number;
  references: number;
}

/** What may start is started at once, everything arrives at once, and compute comes last. */
const STREAM_ORDER: readonly Stream[] = ["network", "storage", "compute"];

/**
 * Follows the schedule as a run does, with every transfer arriving at once.
 * @param options values kept to the end; sizes T (tokens) and B (sequences) of a micro-batch on one rank; how routed rows
 *   are spread, by default evenly: T·k per rank
 */
export function peakMemory(
  program: Program,
  schedule: Schedule,
  options: { readonly keep: ReadonlySet<number>; readonly symbols: Symbols; readonly spread?: Spread },
): PeakMemory {
  const { keep, symbols, spread = "even" } = options;
  const readersLeft = program.values.map((value) => (keep.has(value.id) || value.isState ? 1 : 0));
  for (const op of program.operators) for (const value of new Set(op.reads)) readersLeft[value]++;
  const isWritten = new Set(program.operators.flatMap((op) => op.writes));

  const pieces = new Map<number, Piece[]>();
  let live = 0;
  let [bytes, operator, mostOfEngine] = [0, "", 0];
  const hold = ({ value, bytes: own, shares }: Written): void => {
    const held = [{ bytes: own, references: 0 }, ...shares.flatMap((other) => pieces.get(other) ?? [])];
    for (const piece of held) piece.references++;
    live += own;
    pieces.set(value, held);
  };
  const drop = (value: number): void => {
    for (const piece of pieces.get(value) ?? []) if (--piece.references === 0) live -= piece.bytes;
    pieces.delete(value);
  };
  for (const { id, bytes: own } of program.values)
    if (!isWritten.has(id)) hold({ value: id, bytes: own, shares: [] });

  const run = (op: Operator): void => {
    const { written, scratchBytes, engineBytes } = footprint(op, program, { symbols, spread });
    written.forEach(hold);
    if (live + scratchBytes > bytes) [bytes, operator] = [live + scratchBytes, op.name];
    mostOfEngine = Math.max(mostOfEngine, engineBytes);
    for (const value of new Set(op.reads)) if (--readersLeft[value] === 0) drop(value);
    for (const value of op.writes) if (readersLeft[value] === 0) drop(value);
  };
  const stepper = new Stepper(stepsOf(program, schedule));
  while (!stepper.isDone) {
    const stream = STREAM_ORDER.find((candidate) => stepper.startable(candidate) !== undefined);
    const id = stream === undefined ? undefined : stepper.startable(stream);
    if (id === undefined) break;
    stepper.start(id);
    run(program.operators[id]);
    stepper.finish(id);
  }
  return { bytes, operator, engineBytes: mostOfEngine };
}
