/**
 * The paper's first speed table (SwinV2-MoE-S on 8×A30-PCIe) (method 11.3) against the simulator: three constants per row — attention, MLP,
 * one All-to-All of top-1 rows, all in units of top-2's time — are fitted, the wirings and the policies do the rest.
 */
import { resolveModel } from "../src/model/config.js";
import { buildProgram } from "../src/model/language-model.js";
import type { Program } from "../src/program/program.js";
import { parsePolicy } from "../src/schedule/policy.js";
import { type Costs, classCosts } from "../src/simulate/costs.js";
import { simulate } from "../src/simulate/simulate.js";

/** Speed-up over top-2 (ScMoE, ICML 2025, table 1). */
export const PAPER_TABLE = {
  train: { top1: 1.27, shared: 1.24, "scmoe-pos1": 1.36, "scmoe-pos2": 1.43, "scmoe-pos3": 1.49 },
  inference: { top1: 1.39, shared: 1.35, "scmoe-pos1": 1.54, "scmoe-pos2": 1.66, "scmoe-pos3": 1.82 },
} as const;

const POLICY: Readonly<Record<string, string>> = {
  top1: "sequential",
  shared: "sequential",
  "scmoe-pos1": "adaptive",
  "scmoe-pos2": "adaptive",
  "scmoe-pos3": "adaptive",
};

export interface PairConstants {
  readonly attention: number;
  readonly mlp: number;
  readonly allToAll: number;
}

export interface PaperFit {
  readonly constants: PairConstants;
  readonly predicted: Readonly<Record<string, number>>;
  /** Mean of |predicted / paper − 1|. */
  readonly meanError: number;
}

const programs = new Map<string, Program>();

function pairOf(arch: string): Program {
  let program = programs.get(arch);
  if (program === undefined) {
    const config = resolveModel({
      arch,
      vocab_size: 16,
      hidden_size: 8,
      intermediate_size: 8,
      num_attention_heads: 1,
      num_hidden_layers: 2,
      num_experts: 8,
      max_position_embeddings: 8,
    });
    program = buildProgram(config, { batch: 1, sequence: 8, epSize: 8, head: "losses" }).program;
    programs.set(arch, program);
  }
  return program;
}

/** All else takes no time. */
function pairCosts({ attention, mlp, allToAll }: PairConstants): Costs {
  return classCosts({ attention, mlp, shared: mlp, expert: mlp, dispatch: allToAll, combine: allToAll }, 0);
}

export function predictSpeedUps(constants: PairConstants): Record<string, number> {
  const costs = pairCosts(constants);
  return Object.fromEntries(
    Object.entries(POLICY).map(([arch, policy]) => {
      const program = pairOf(arch);
      const schedule = parsePolicy(policy).schedule(program, costs);
      return [arch, 1 / simulate(program, schedule, { costs: [costs] }).summary.stepMs];
    }),
  );
}

/** Shares of top-2's time from which the search begins. */
const GRID: readonly PairConstants[] = [0.02, 0.03, 0.04, 0.05, 0.07, 0.1].flatMap((attention) =>
  [0.02, 0.03, 0.04, 0.05, 0.07, 0.1].flatMap((mlp) =>
    [0.2, 0.24, 0.28, 0.32, 0.36].map((allToAll) => ({ attention, mlp, allToAll })),
  ),
);

/** Best point of a grid, then moves with shrinking steps; deterministic. */
export function fitPaperRow(row: Readonly<Record<string, number>>): PaperFit {
  const errorOf = (constants: PairConstants): number => {
    const predicted = predictSpeedUps(constants);
    const archs = Object.keys(row);
    return archs.reduce((sum, arch) => sum + Math.abs(predicted[arch] / row[arch] - 1), 0) / archs.length;
  };
  const ranked = GRID.map((point) => ({ constants: point, error: errorOf(point) })).sort(
    (x, y) => x.error - y.error,
  );
  const refined = ranked.slice(0, STARTS).map(({ constants, error }) => refine(constants, error, errorOf));
  const best = refined.reduce((x, y) => (y.error < x.error ? y : x));
  return { constants: best.constants, predicted: predictSpeedUps(best.constants), meanError: best.error };
}

const STARTS = 12;

function refine(
  start: PairConstants,
  startError: number,
  errorOf: (constants: PairConstants) => number,
): { constants: PairConstants; error: number } {
  let [constants, error] = [start, startError];
  const keys = Object.keys(constants) as (keyof PairConstants)[];
  // Pairs of constants trade against each other, so diagonal moves are tried, too.
  const directions = keys.flatMap((key, i) => [
    { [key]: 1 },
    { [key]: -1 },
    ...keys.slice(i + 1).flatMap((other) => [
      { [key]: 1, [other]: -1 },
      { [key]: -1, [other]: 1 },
    ]),
  ]) as Partial<PairConstants>[];
  for (let step = 0.3; step > 1e-3;) {
    let improved = false;
    for (const direction of directions) {
      const moved = Object.fromEntries(
        keys.map((key) => [key, constants[key] * (1 + step * (direction[key] ?? 0))]),
      ) as unknown as PairConstants;
      const movedError = errorOf(moved);
      if (movedError < error) [constants, error, improved] = [moved, movedError, true];
    }
    if (!improved) step /= 2;
  }
  return { constants, error };
}
