/** Policies by name (method 7.5): what `schedule.policy` and `--policy` accept. */
import { InputError } from "../core/errors.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { type Costs, unitCosts } from "../simulate/costs.js";
import { adaptive } from "./adaptive.js";
import { fixed } from "./fixed.js";
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

const POLICIES: readonly { pattern: RegExp; make: (name: string, argument: number) => Policy }[] = [
  {
    pattern: /^sequential$/,
    make: (name) => ({ name, chunks: 1, usesCosts: false, schedule: (program) => sequential(program) }),
  },
  {
    pattern: /^pipelined\((\d+)\)$/,
    make: (name, chunks) => ({
      name,
      chunks,
      usesCosts: false,
      schedule: (program) => ({
        ...eager(program, unitCosts),
        policy: name,
        note: `${name}: rows in ${chunks} chunks`,
      }),
    }),
  },
  {
    pattern: /^fixed\((\d+)\)$/,
    make: (name, slot) => ({
      name,
      chunks: 1,
      usesCosts: false,
      schedule: (program) => fixed(program, { forward: slot, backward: slot }),
    }),
  },
  {
    pattern: /^adaptive$/,
    make: (name) => ({
      name,
      chunks: 1,
      usesCosts: true,
      schedule: (program, costs) => adaptiveOn(name, program, costs),
    }),
  },
  {
    pattern: /^adaptive\((\d+)\)$/,
    make: (name, chunks) => ({
      name,
      chunks,
      usesCosts: true,
      schedule: (program, costs) => adaptiveOn(name, program, costs),
    }),
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
 * The policy of a name: sequential, pipelined(n), fixed(K), adaptive, adaptive(n).
 * @throws InputError when there is no such policy
 */
export function parsePolicy(text: string): Policy {
  for (const { pattern, make } of POLICIES) {
    const match = text.trim().match(pattern);
    if (match === null) continue;
    const argument = match[1] === undefined ? 1 : Number(match[1]);
    if (argument >= 1) return make(text.trim(), argument);
  }
  throw new InputError(
    `Unknown policy "${text}"; known: sequential, pipelined(n), fixed(K) with K from 1, adaptive, adaptive(n)`,
  );
}
