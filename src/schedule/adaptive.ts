/**
 * Placement by search on costs. Each segment of the program is placed by trying all orders; what lies outside of the
 * segments fills gaps; a local search then improves what is not proven best. A lower bound says how far from the
 * optimum the result is at most.
 */
import type { Program } from "../program/program.js";
import { runClock } from "../simulate/clock.js";
import { type Costs, costArray } from "../simulate/costs.js";
import { type PlacedSegment, placeSegments, programBound } from "./bound.js";
import { fixed, numSlots } from "./fixed.js";
import { improve } from "./improve.js";
import { eager, listSchedule } from "./list-schedule.js";
import { searchPriorities } from "./priorities.js";
import { describePlacement } from "./placement.js";
import type { Schedule } from "../program/schedule.js";
import { segmentsOf } from "./segments.js";
import { sequential } from "./sequential.js";

/** Work of the local search: orders tried times operators of the program. This much takes about half a second. */
const WORK = 400_000;
/** The same of the search over priorities: lists without a given order are quicker to make. */
const PRIORITY_WORK = 1_500_000;
/** How many of the fastest orders found so far the local search starts from. */
const STARTS = 2;

interface Candidate {
  readonly order: Schedule["order"];
  readonly ms: number;
}

/** The fastest schedule found at these costs; its note says where the experts went and how good that is. */
export function adaptive(program: Program, costs: Costs): Schedule {
  const cost = costArray(program, costs);
  const segments = placeSegments(program, cost);
  const boundMs = programBound(program, cost, segments);
  const evaluate = (order: Schedule["order"]): Candidate => ({
    order,
    ms: runClock(program, { order, edges: [] }, { costs: [cost] }),
  });
  const isBest = ({ ms }: Candidate): boolean => ms <= boundMs * (1 + 1e-9) + 1e-9;

  const isWide = program.operators.some(({ microBatch }) => microBatch !== undefined);
  let found = [evaluate(joinSegments(program, cost, segments)), evaluate(eager(program, costs).order)];
  if (!found.some(isBest)) {
    if (isWide) {
      const attempts = Math.ceil(PRIORITY_WORK / program.operators.length);
      found.push(evaluate(searchPriorities(program, { cost, attempts, boundMs }).order));
    }
    found.push(...fixedPlacements(program).map((order) => evaluate(withLooseInGaps(program, cost, order))));
    found = found.sort((a, b) => a.ms - b.ms);
    const attempts = Math.ceil(WORK / (STARTS * program.operators.length));
    for (const { order } of found.slice(0, STARTS)) {
      const better = improve(program, order.compute, { cost, attempts, boundMs });
      found.push(evaluate(better.order));
    }
  }
  const chosen = found.reduce((a, b) => (b.ms < a.ms - 1e-9 ? b : a));
  const sequentialMs = runClock(program, sequential(program), { costs: [cost] });
  const schedule = { policy: "adaptive", order: chosen.order, edges: [] };
  return {
    ...schedule,
    note: note(program, { ...schedule, note: "" }, { ms: chosen.ms, boundMs, sequentialMs }),
  };
}

function note(
  program: Program,
  schedule: Schedule,
  at: { readonly ms: number; readonly boundMs: number; readonly sequentialMs: number },
): string {
  const gap = at.boundMs > 0 ? (at.ms / at.boundMs - 1) * 100 : 0;
  const quality =
    gap < 1e-6
      ? "no schedule is faster"
      : `at most ${(Math.ceil(gap * 10) / 10).toFixed(1)} % above the best possible`;
  const reason = `predicted ${at.ms.toFixed(1)} ms, one after another ${at.sequentialMs.toFixed(1)} ms; ${quality}`;
  const placement = describePlacement(program, schedule);
  return `adaptive: ${placement === "" ? "" : `${placement}; `}${reason}`;
}

/** The segments' orders one after another, loose operators in the gaps. */
function joinSegments(
  program: Program,
  cost: Float64Array,
  segments: readonly PlacedSegment[],
): Schedule["order"] {
  const sequence: number[] = [];
  let indexOf: Map<number, number> | undefined;
  for (const { segment, placed } of segments) {
    if (placed !== undefined) {
      sequence.push(...placed.order.compute.map((i) => segment.ids[i]));
      continue;
    }
    // Too large for all its orders to be tried: its operators keep the order they have in a list schedule of the whole program.
    indexOf ??= new Map(listSchedule(program, { cost }).order.compute.map((id, i) => [id, i]));
    const known = indexOf;
    const compute = segment.ids.filter((id) => program.operators[id].stream === "compute");
    sequence.push(...compute.sort((a, b) => (known.get(a) as number) - (known.get(b) as number)));
  }
  return listSchedule(program, { cost, sequence }).order;
}

/** Keeps the order of main operators, and moves loose ones to where the compute stream would stand still. */
function withLooseInGaps(program: Program, cost: Float64Array, order: Schedule["order"]): Schedule["order"] {
  const { isMain } = segmentsOf(program);
  const sequence = order.compute.filter((id) => isMain[id] === 1);
  return sequence.length === order.compute.length ? order : listSchedule(program, { cost, sequence }).order;
}

/** Every pair of slots, forward and backward (method 7.4). */
function fixedPlacements(program: Program): Schedule["order"][] {
  const slots = numSlots(program);
  const hasBackward = program.operators.some((op) => op.pass === "backward");
  const all: Schedule["order"][] = [];
  for (let forward = 1; forward <= slots; forward++)
    for (let backward = 1; backward <= (hasBackward ? slots : 1); backward++)
      all.push(fixed(program, { forward, backward }).order);
  return all;
}
