/** Operators that no model has, for tests of what asks for streams, reads, writes and work only. */
import { type Kind, type Operator, STREAM_OF, type Stream } from "../src/program/operator.js";
import type { Program } from "../src/program/program.js";
import { type Work, costKey } from "../src/program/work.js";
import type { ActionTable, Run } from "../src/run/context.js";

export interface MadeUpOperator extends Partial<
  Pick<Operator, "name" | "pass" | "layer" | "chunk" | "branch">
> {
  /** Default compute. */
  readonly stream?: Stream;
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  readonly after?: readonly number[];
  /** Operators of equal work cost alike. */
  readonly work?: Partial<Work>;
}

/** The class is a small one: nothing is placed around it. */
const WORK: Work = { class: "sum", flops: 0, bytes: 4 };

/** Its kind is one of which nothing is asked but its stream, and that is the wanted one. */
export function madeUpOperator(id: number, of: MadeUpOperator): Operator {
  const { stream = "compute", pass = "forward" } = of;
  const kind: Kind = stream === "compute" ? "sum" : "statistics";
  const work = { ...WORK, ...of.work };
  return {
    name: `op${id}`,
    after: [],
    ...of,
    id,
    kind,
    stream,
    pass,
    work,
    cost: costKey({ pass, work }),
    data: undefined,
  } as unknown as Operator;
}

/** Values are as many as the operators name, of `bytes` each (default 4). */
export function madeUpProgram(operators: readonly MadeUpOperator[], bytes: readonly number[] = []): Program {
  const numValues = 1 + Math.max(-1, ...operators.flatMap(({ reads, writes }) => [...reads, ...writes]));
  return {
    name: "made up",
    operators: operators.map((of, id) => madeUpOperator(id, of)),
    values: Array.from({ length: numValues }, (_, id) => ({ id, name: `v${id}`, bytes: bytes[id] ?? 4 })),
  };
}

/** Actions that go by the operator itself, whatever its kind. */
export function actionsOf(bind: (op: Operator) => Run): ActionTable {
  return Object.fromEntries(Object.keys(STREAM_OF).map((kind) => [kind, bind])) as unknown as ActionTable;
}
