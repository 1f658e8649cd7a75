/** Validation loss on this rank's model. */
import { sumScalars } from "../comm/collectives.js";
import { InputError, InterruptedError } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import { evalBatch, numWindows } from "../data/batches.js";
import { openPrepared, prepareData } from "../data/prepare.js";
import type { TokenFile } from "../data/token-file.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { type ModelProgram, buildProgram } from "../model/language-model.js";
import type { Schedule } from "../program/schedule.js";
import { type JobContext, defineJob } from "../launch/job.js";
import { checkpointConfig, loadWeights } from "../run/load-weights.js";
import { type Rank, createRank } from "../run/rank.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { findCheckpoint } from "../storage/checkpoint-names.js";
import { CheckpointReader } from "../storage/checkpoint-reader.js";

export interface EvaluateShape {
  readonly sequence: number;
  /** Sequences per rank at a time. */
  readonly batch: number;
  readonly batches: number;
}

/** Mean nats per token over held-out text; at most one pass over it. */
export class Evaluator {
  readonly #model: ModelProgram;
  readonly #session: Session;
  readonly #schedule: Schedule;

  constructor(
    readonly rank: Rank,
    readonly file: TokenFile,
    readonly shape: EvaluateShape,
  ) {
    const { batch, sequence } = shape;
    this.#model = buildProgram(rank.config, { batch, sequence, epSize: rank.ep.size, head: "losses" });
    this.#session = new Session(rank, this.#model.program, { keep: [this.#model.output] });
    this.#schedule = sequential(this.#model.program);
  }

  run(): number {
    const { file, shape } = this;
    const { world } = this.rank;
    const perRound = shape.batch * world.size;
    const rounds = Math.max(
      1,
      Math.min(shape.batches, Math.floor(numWindows(file, shape.sequence) / perRound)),
    );
    let sum = 0;
    for (let round = 0; round < rounds; round++) {
      const batch = evalBatch(file, { ...shape, ranks: world.size }, round, world.rank);
      const dims = [batch.tokens.length];
      const feeds = new Map<number, unknown>([
        [this.#model.tokens, { data: batch.tokens, dims }],
        [this.#model.labels as number, { data: batch.labels, dims }],
      ]);
      const run = this.#session.run(this.#schedule, feeds);
      for (const loss of run.read<Tensor<Float32Array>>(this.#model.output).data) sum += loss / dims[0];
      run.release();
    }
    return sumScalars(world, [sum / (rounds * world.size)], "validation loss")[0];
  }
}

/** What to evaluate, on which text. */
export interface EvaluateTask {
  /** Run directory (its newest checkpoint) or checkpoint. */
  readonly model: string;
  /** "sotu" (built in, the default), a text file, or a directory of .txt files; its held-out part is used. */
  readonly corpus?: string | undefined;
  /** Where prepared token files are kept. Default .scmoe/cache. */
  readonly cache?: string | undefined;
  /** Batches at most. Default 64. */
  readonly batches?: number | undefined;
  /** Sequences per rank and batch. Default 4. */
  readonly batchSize?: number | undefined;
  /** Tokens per sequence. Default: the model's longest. */
  readonly sequence?: number | undefined;
}

/** Losses in nats per token, over held-out text. */
export interface EvaluateResult {
  readonly checkpoint: string;
  readonly loss: number;
  readonly perplexity: number;
  readonly unigramEntropy: number;
}

/** @throws InputError when the checkpoint is missing or damaged, or does not fit the options; InterruptedError */
export const evaluateJob = defineJob(import.meta.url, "evaluateJob", run);

function run(context: JobContext, task: EvaluateTask): EvaluateResult {
  const { corpus = "sotu", cache = ".scmoe/cache", batches = 64, batchSize: batch = 4 } = task;
  const directory = findCheckpoint(task.model);
  const reader = new CheckpointReader(directory);
  reader.verify({ turn: context.world.rank, of: context.world.size });
  const config = checkpointConfig(reader);
  const sequence = task.sequence ?? config.max_position_embeddings;
  if (sequence > config.max_position_embeddings)
    throw new InputError(
      `A sequence of ${sequence} is beyond the model's max_position_embeddings ${config.max_position_embeddings}`,
    );
  const engine = createOrtEngine();
  const rank = createRank({ config, engine, world: context.world });
  loadWeights(rank, reader);
  reader.close();
  const prepared = prepareData({
    corpus,
    vocabSize: config.vocab_size,
    tokenizer: directory,
    cacheDirectory: cache,
    onProgress: (what, share) => {
      if (context.interrupted()) throw new InterruptedError("Interrupted while preparing data");
      context.progress(`${what} ${(share * 100).toFixed(0)} %`);
    },
  });
  const data = openPrepared(prepared.directory, config.vocab_size);
  const loss = new Evaluator(rank, data.validation, { sequence, batch, batches }).run();
  engine.dispose();
  return { checkpoint: directory, loss, perplexity: Math.exp(loss), unigramEntropy: data.unigramEntropy };
}
