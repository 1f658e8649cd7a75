/** Policies by name (method 7.5): what `schedule.policy` and `--policy` accept. */
import { BOUNDS, fits } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { type Costs, unitCosts } from "../simulate/costs.js";
import { adaptive } from "./adaptive.js";
import { fixed, fourStages } from "./fixed.js";
import { eager } from "./list-schedule.js";
import { sequential } from "./sequential.js";

/** A pure function from a program and its costs to an order. */
export interface Policy {
  /** As given, e.g. "pipelined(2)". */
  readonly name: string;
  /** Chunks that the program's dispatched rows are split into. */
  readonly chunks: number;
  /** Whether the schedule depends on measured costs. */
  readonly usesCosts: boolean;
  readonly schedule: (program: Program, costs?: Costs) => Schedule;
}

interface Family {
  readonly pattern: RegExp;
  readonly isChunked?: boolean;
  readonly usesCosts?: boolean;
  readonly schedule: (
    program: Program,
    of: { readonly name: string; readonly argument: number },
    costs?: Costs,
  ) => Schedule;
}

const FAMILIES: readonly Family[] = [
  { pattern: /^sequential$/, schedule: (program) => sequential(program) },
  {
    pattern: /^pipelined\((\d+)\)$/,
    isChunked: true,
    schedule: (program, { name, argument }) => ({
      ...eager(program, unitCosts),
      policy: name,
      note: `${name}: rows in ${argument} chunks`,
    }),
  },
  {
    pattern: /^fixed\((\d+)\)$/,
    schedule: (program, { argument }) => fixed(program, { forward: argument, backward: argument }),
  },
  { pattern: /^fixed\(four-stage\)$/, schedule: (program) => fourStages(program) },
  {
    pattern: /^adaptive(?:\((\d+)\))?$/,
    isChunked: true,
    usesCosts: true,
    schedule: (program, { name }, costs) => adaptiveOn(name, program, costs),
  },
];

/** Before anything is measured, orders are found with unit costs. Their sums are no milliseconds, so the note shows none. */
function adaptiveOn(name: string, program: Program, costs: Costs | undefined): Schedule {
  if (costs !== undefined) return adaptive(program, costs);
  return {
    ...adaptive(program, unitCosts),
    note: `${name}: placed by unit costs, as long as none are measured`,
  };
}

/**
 * The policy of a name: sequential, pipelined(n), fixed(K), fixed(four-stage), adaptive, adaptive(n).
 * @throws InputError when there is no such policy
 */
export function parsePolicy(text: string): Policy {
  const name = text.trim();
  for (const { pattern, isChunked, usesCosts = false, schedule } of FAMILIES) {
    const argument = Number(name.match(pattern)?.[1] ?? 1);
    if (!pattern.test(name) || !fits(argument, BOUNDS.policyArgument)) continue;
    const chunks = isChunked ? argument : 1;
    return {
      name,
      chunks,
      usesCosts,
      schedule: (program, costs) => schedule(program, { name, argument }, costs),
    };
  }
  throw new InputError(
    `Unknown policy "${text}"; known: sequential, pipelined(n), fixed(K), fixed(four-stage), adaptive, adaptive(n), with n and K from 1 to ${BOUNDS.policyArgument.to}`,
  );
}
