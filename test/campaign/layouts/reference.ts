/** What one rank runs in place of a layout: the same pieces, sequentially, in the simplest program. */
import type { Engine } from "../../../src/engine/engine.js";
import { singleCommunicator } from "../../../src/comm/single.js";
import { resolveModel } from "../../../src/model/config.js";
import { ACTIONS } from "../../../src/run/actions/index.js";
import type { RoutingValue } from "../../../src/run/actions/gate.js";
import type { RowBuffer } from "../../../src/run/actions/rows.js";
import type { ActionTable } from "../../../src/run/context.js";
import { expertSide } from "../../../src/run/moe/layout.js";
import { loadStatistics } from "../../../src/run/moe/statistics.js";
import { Session } from "../../../src/run/session.js";
import { sequential } from "../../../src/schedule/sequential.js";
import { updateSelectionBias } from "../../../src/train/balance.js";
import type { MicroBatch } from "../../../src/train/micro-batch.js";
import { clipFactor, gradientNorm } from "../../../src/train/optimizer.js";
import { type StepReport, applyUpdate, forwardBackward } from "../../../src/train/step.js";
import { type Scheduled, type StepSessions, openStep } from "../../../src/train/step-sessions.js";
import { type Trainee, createTrainee } from "../../../src/train/trainee.js";
import { type Case, type Pieces, isRounded, piecesOf } from "./case.js";
import { rows, sequencesOf } from "./feed.js";
import { type Played, optimizerOf, playSteps, stepOptions } from "./play.js";

/** @param isNudged whether weights differ by rounding from the case's */
export function playReference(engine: Engine, of: Case, isNudged = false): Played {
  const pieces = piecesOf(of);
  const model = {
    ...of.model,
    ...(pieces === "grouped pieces" ? { balance_statistics: "global" as const } : {}),
  };
  const rank = createTrainee({ config: resolveModel(model), engine, world: singleCommunicator() });
  const groups = groupsOf(of, pieces);
  const program = {
    batch: groups[0][0].count,
    sequence: of.sequence,
    microBatches: groups[0].length,
    // Another way than layouts go: one micro-batch after the other.
    microBatchesAtOnce: 1,
    epSize: 1,
    documents: of.documents,
  };
  const opened = openStep(rank, program, sequential);
  const sessions = isRounded(of) ? withRounding(rank, opened) : opened;
  const problems: string[] = [];
  const { gathered } = playSteps(rank, sessions, of, {
    problems,
    isNudged,
    micros: (step) => groups.flat().map((range) => rows(of, step, range)),
    run: (watched, step, micros) =>
      meanStep(rank, watched, of, { step, groups: regroup(micros, groups.length) }),
  });
  const played = gathered();
  return { ...played, problems: [...played.problems, ...problems] };
}

/** Sequences of a step. */
interface Range {
  readonly first: number;
  readonly count: number;
}

function groupsOf(of: Case, pieces: Pieces): Range[][] {
  const perMicro = of.ranks * of.batch;
  const cut = (range: Range, count: number): Range[] =>
    Array.from({ length: range.count / count }, (_, i) => ({ first: range.first + i * count, count }));
  const step = { first: 0, count: sequencesOf(of) };
  const TABLE: Readonly<Record<Pieces, () => Range[][]>> = {
    whole: () => [[step]],
    "micro-batches": () => [cut(step, perMicro)],
    pieces: () => [cut(step, of.batch)],
    "grouped pieces": () => cut(step, perMicro).map((micro) => cut(micro, of.batch)),
  };
  return TABLE[pieces]();
}

function regroup<T>(list: readonly T[], groups: number): T[][] {
  const size = list.length / groups;
  return Array.from({ length: groups }, (_, g) => list.slice(g * size, (g + 1) * size));
}

/** A step whose losses and gradients are means over groups of micro-batches, each group a step of its own. */
function meanStep(
  rank: Trainee,
  sessions: StepSessions,
  of: Case,
  { step, groups }: { readonly step: number; readonly groups: readonly (readonly MicroBatch[])[] },
): StepReport {
  const options = stepOptions(of, step);
  const sums = rank.weights.buckets.map(({ size }) => new Float64Array(size));
  const reports = groups.map((micros) => {
    const report = forwardBackward(rank, sessions, micros, options);
    rank.weights.buckets.forEach((bucket, b) =>
      rank.gradients.bucket(bucket).forEach((g, i) => (sums[b][i] += g)),
    );
    return report;
  });
  rank.weights.buckets.forEach((bucket, b) =>
    rank.gradients.bucket(bucket).set(sums[b].map((sum) => sum / groups.length)),
  );
  const norm = gradientNorm(rank);
  const mean = (of: (report: (typeof reports)[number]) => number): number =>
    reports.reduce((sum, report) => sum + of(report), 0) / groups.length;
  const loads = reports[0].loads.map((load, i) =>
    loadStatistics({
      load: load.tokensPerExpert.map((_, e) =>
        reports.reduce((sum, { loads: all }) => sum + all[i].tokensPerExpert[e], 0),
      ),
      dropped: 0,
      zero: undefined,
      wanted: reports.reduce((sum, { loads: all }) => sum + all[i].choices, 0),
      nonFinite: 0,
    }),
  );
  const optimizer = optimizerOf(of);
  applyUpdate(sessions, {
    step: step + 1,
    learningRate: options.learningRate,
    gradScale: clipFactor(norm, optimizer.clip_norm),
    options: optimizer,
  });
  updateSelectionBias(rank, sessions.model, loads);
  return {
    lmLoss: mean(({ lmLoss }) => lmLoss),
    balanceLoss: mean(({ balanceLoss }) => balanceLoss),
    zLoss: mean(({ zLoss }) => zLoss),
    loss: mean(({ loss }) => loss),
    gradientNorm: norm,
    loads,
    runs: [],
  };
}

/** The same programs, whose transfers round rows as bf16 does. */
function withRounding(rank: Trainee, sessions: StepSessions): StepSessions {
  const { model, gates, accumulate, last } = sessions;
  const routings = (of: typeof model | NonNullable<typeof gates>["model"]): number[] =>
    of.routings.map(({ data }) => data.routing);
  const again = ({ session: { program }, schedule }: Scheduled, keep: readonly number[]): Scheduled => ({
    schedule,
    session: new Session(rank, program, { keep, actions: ROUNDING }),
  });
  const keep = [model.output, ...routings(model)];
  if (model.statistics !== undefined && gates === undefined) keep.push(model.statistics);
  return {
    ...sessions,
    gates: gates && { model: gates.model, ...again(gates, routings(gates.model)) },
    accumulate: accumulate && again(accumulate, keep),
    last: again(last, keep),
  };
}

const ROUNDING: ActionTable = {
  ...ACTIONS,
  transfer:
    ({ data }, { memory }) =>
    (context) => {
      const side = context.read<RoutingValue>(data.routing).side(data.shape, data.chunk, data.chunks);
      if (data.bringsCounts) context.write(data.counts, expertSide([side.counts]), []);
      const input = context.read<RowBuffer>(data.input);
      const rounded = memory.allocate(input.rows.length);
      input.rows.forEach((x, i) => (rounded.f32[i] = roundToBf16(x)));
      context.write(data.output, { rows: rounded.f32, starts: input.starts } satisfies RowBuffer, [rounded]);
      return undefined;
    },
};

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** To nearest, ties to even. */
export function roundToBf16(x: number): number {
  float[0] = x;
  word[0] = (word[0] + 0x7fff + ((word[0] >>> 16) & 1)) & 0xffff0000;
  return float[0];
}
