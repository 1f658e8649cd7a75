/** What training and evaluation will need on each rank, from the config alone: nothing is allocated or compiled for it. */
import { sliceOf } from "../comm/regions.js";
import { greatestDivisor } from "../core/divisor.js";
import { corpusBytes } from "../data/corpus.js";
import type { TensorRun } from "../model/buckets.js";
import type { ModelConfig } from "../model/config.js";
import { reductionBuckets } from "../model/gradient-buckets.js";
import { wholeStep } from "../program/reduction.js";
import { forwardPeaks, inferenceNeed, peaks, weightNeed } from "../run/inference-need.js";
import { type MemoryNeed, type RankPlaces, memoryNeed, rankBase } from "../run/memory-need.js";
import { peakMemory } from "../run/peak-memory.js";
import { parsePolicy } from "../schedule/policy.js";
import { sequential } from "../schedule/sequential.js";
import { type RunConfig, modelOf } from "./config.js";
import { divideBatch } from "./prepare.js";
import { keptValues, stepModel } from "./step-sessions.js";
import { openTeacher, teacherEpSize, teacherProgram } from "./teacher.js";

/**
 * @param where ranks, and whether a twin trains beside
 * @throws InputError when the ranks do not divide the batch or the experts
 */
export function trainingNeed(
  config: RunConfig,
  { ranks, inProcess, proveOverlap = false }: RankPlaces & { readonly proveOverlap?: boolean | undefined },
): MemoryNeed {
  const model = modelOf(config);
  const { train, parallel, data } = config;
  const { zero } = parallel;
  const { batch, sequence, microBatches, atOnce } = divideBatch(config, ranks);
  const { epSize, runs, ...weights } = weightNeed(model, { ranks, wanted: parallel.expert_parallel });
  const owned = (run: TensorRun): number =>
    zero && run.kind === "replicated" ? sliceOf(run.size, 0, ranks).end : run.size;

  const policy = parsePolicy(config.schedule.policy);
  const {
    model: training,
    values,
    ...repeated
  } = stepModel(model, {
    microBatches,
    microBatchesAtOnce: atOnce,
    batch,
    sequence,
    epSize,
    ranks,
    chunks: policy.chunks,
    recompute: train.recompute,
    splitWeightGradients: train.split_weight_gradients,
    wire: parallel.wire,
    documents: data.document_mask,
    distill: train.distill && { temperature: train.distill.temperature },
  });
  const buckets = reductionBuckets(runs, { ranks, epSize, zero, wire: parallel.wire_gradients });
  const { program } = wholeStep(repeated.program, buckets);
  const schedule = policy.schedule(program);
  const [keep, { symbols }] = [new Set(keptValues(training, values)), training];
  const step = peaks((spread) => peakMemory(program, schedule, { keep, symbols, spread }));
  const dropless = train.eval_capacity ? model : { ...model, capacity_factor: null };
  const evaluation = forwardPeaks(dropless, { batch, sequence, epSize, head: "losses" });

  const teacher = teacherNeed(config, { ranks, epSize, batch, sequence });
  const twin = proveOverlap ? 1 : 0;
  // Lessons live as long as the run of the student that they are for.
  const lessons = teacher === undefined ? 0 : (atOnce - 1) * batch * sequence * model.vocab_size * 4;
  const activations = (spread: keyof typeof step): number =>
    Math.max(step[spread].bytes, evaluation[spread].bytes) +
    twin * step[spread].bytes +
    (teacher?.activations[spread].bytes ?? 0) +
    lessons;
  return memoryNeed(
    {
      weights: weights.bytes * (1 + twin) + (teacher?.weights ?? 0),
      gradients: weights.trainedBytes * (1 + twin),
      moments: runs.reduce((sum, run) => sum + 8 * owned(run), 0) * (1 + twin),
      activations: activations("even"),
      graphBytes: Math.max(
        step.even.engineBytes,
        evaluation.even.engineBytes,
        teacher?.activations.even.engineBytes ?? 0,
      ),
      base: rankBase({ ranks, inProcess }, corpusBytes(data.corpus)),
    },
    { ranks: inProcess, worstActivations: activations("worst") },
  );
}

/** A teacher's weights, and its forward pass with the logits that the student reads. */
function teacherNeed(
  config: RunConfig,
  { ranks, epSize, ...shape }: { ranks: number; epSize: number; batch: number; sequence: number },
): { readonly weights: number; readonly activations: ReturnType<typeof peaks> } | undefined {
  const opened = openTeacher(config);
  if (opened === undefined) return undefined;
  const { config: model } = opened;
  opened.close();
  const wanted = teacherEpSize(model, epSize);
  const program = teacherProgram(model, {
    ...shape,
    epSize: wanted,
    documents: config.data.document_mask,
    wire: config.parallel.wire,
  });
  const schedule = sequential(program.program);
  const keep = new Set([program.output]);
  return {
    weights: weightNeed(model, { ranks, wanted }).bytes,
    activations: peaks((spread) =>
      peakMemory(program.program, schedule, { keep, symbols: program.symbols, spread }),
    ),
  };
}

/** @throws InputError when the ranks do not divide the experts */
export function evaluationNeed(
  model: ModelConfig,
  of: RankPlaces & { readonly corpus: string; readonly batch: number; readonly sequence: number },
): MemoryNeed {
  const { corpus, ...shape } = of;
  const epSize = greatestDivisor(of.ranks, model.num_experts);
  const base = rankBase(of, corpusBytes(corpus));
  return inferenceNeed({ ...model, capacity_factor: null }, { ...shape, epSize, head: "losses", base });
}
