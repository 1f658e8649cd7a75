/** Validation loss on this rank's model. */
import { sumScalars } from "../comm/collectives.js";
import type { Communicator } from "../comm/communicator.js";
import { InputError, InterruptedError, NumericsError } from "../core/errors.js";
import { defaultSequence } from "../core/bounds.js";
import { greatestDivisor } from "../core/divisor.js";
import { collectGarbage } from "../core/garbage.js";
import type { Tensor } from "../core/tensor.js";
import { evalBatch, numWindows } from "../data/batches.js";
import { isTokenFile, openHeldOut } from "../data/held-out.js";
import type { TokenFile } from "../data/token-file.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import type { QuantisedForm, WeightForm } from "../kernel/quantise.js";
import { type ModelProgram, buildProgram } from "../model/language-model.js";
import type { Schedule } from "../program/schedule.js";
import { type JobContext, defineJob } from "../launch/job.js";
import type { Services } from "../run/context.js";
import { createInferenceRank } from "../run/inference-rank.js";
import { loadWeights } from "../run/load-weights.js";
import { type OpenModel, openModel } from "../run/open-model.js";
import { type Rank, createRank } from "../run/rank.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { wasDocumentMasked } from "./run-directory.js";

export interface EvaluateShape {
  readonly sequence: number;
  /** Sequences per rank at a time. */
  readonly batch: number;
  /** Sequences at most, on all ranks together. */
  readonly sequences: number;
  /** Whether experts have the capacity of training, per rank and batch: the figure then depends on both. */
  readonly withCapacity: boolean;
  /** The token that ends a document, where no document is to see another. */
  readonly endOfText?: number | undefined;
}

/** What a model is evaluated on: its weights may be inputs of kernels, or fixed in any form. */
export type EvaluatedRank = Services & Pick<Rank, "config">;

/**
 * Mean nats per token over held-out text: its first sequences, each once, whatever number of ranks and batches. Every
 * expert takes all rows it is sent, unless asked otherwise.
 */
export class Evaluator {
  readonly #model: ModelProgram;
  readonly #session: Session;
  readonly #schedule: Schedule;

  constructor(
    readonly rank: EvaluatedRank,
    readonly file: TokenFile,
    readonly shape: EvaluateShape,
  ) {
    const { batch, sequence, withCapacity, endOfText } = shape;
    const config = withCapacity ? rank.config : { ...rank.config, capacity_factor: null };
    this.#model = buildProgram(config, {
      batch,
      sequence,
      epSize: rank.ep.size,
      head: "losses",
      documents: endOfText !== undefined,
    });
    this.#session = new Session(rank, this.#model.program, { keep: [this.#model.output] });
    this.#schedule = sequential(this.#model.program);
  }

  /** Sequences that a run takes. */
  get sequences(): number {
    return Math.min(this.shape.sequences, numWindows(this.file, this.shape.sequence));
  }

  /** All ranks together. @throws NumericsError when the loss is not finite */
  run(): number {
    const { batch } = this.shape;
    const { world } = this.rank;
    const { sequences } = this;
    let sum = 0;
    for (let start = 0; start < sequences; start += batch * world.size) {
      // A rank that has none left takes part in the others' exchanges all the same.
      const first = Math.min(start + world.rank * batch, sequences - 1);
      const real = Math.max(0, Math.min(batch, sequences - start - world.rank * batch));
      sum += this.#lossOf({ first, real });
    }
    const loss = sumScalars(world, [sum], "validation loss")[0] / sequences;
    if (!Number.isFinite(loss))
      throw new NumericsError(
        `The validation loss is ${loss}: the model's weights lead to values that are not finite`,
      );
    return loss;
  }

  /** Sum over sequences of their mean loss. */
  #lossOf(windows: { readonly first: number; readonly real: number }): number {
    const { batch, sequence } = this.shape;
    const { tokens, labels, starts } = evalBatch(this.file, this.shape, windows);
    const dims = [tokens.length];
    const feeds = new Map<number, unknown>([
      [this.#model.tokens, { data: tokens, dims }],
      [this.#model.labels as number, { data: labels, dims }],
    ]);
    if (this.#model.starts !== undefined)
      feeds.set(this.#model.starts, { data: starts, dims: [batch, sequence] });
    const run = this.#session.run(this.#schedule, feeds);
    const losses = run.read<Tensor<Float32Array>>(this.#model.output).data;
    const sum = losses.subarray(0, windows.real * sequence).reduce((a, b) => a + b, 0);
    run.release();
    return sum / sequence;
  }
}

/** What to evaluate, on which text. */
export interface EvaluateTask {
  /** Run directory (its newest checkpoint), checkpoint or published folder. */
  readonly model: string;
  /** "sotu" (built in, the default), a text file, or a directory of .txt files (subdirectories included): its held-out part is
   * used. Or a token file, *.tokens, all of it. */
  readonly corpus?: string | undefined;
  /** Encoding of its text files. Default "utf-8". */
  readonly encoding?: string | undefined;
  /** Where prepared token files are kept. Default .scmoe/cache. */
  readonly cache?: string | undefined;
  /** Sequences at most, on all ranks together; each counts once. Default 256. */
  readonly batches?: number | undefined;
  /** Sequences per rank at a time. Default 4. */
  readonly batchSize?: number | undefined;
  /** Tokens per sequence. Default: the model's longest. */
  readonly sequence?: number | undefined;
  /** Drop tokens beyond the model's capacity_factor, per rank and batch, as training does. Default: none are dropped. */
  readonly capacity?: boolean | undefined;
  /** No document sees another in its window. Default: as the run was trained; false where there is no run.json. */
  readonly documentMask?: boolean | undefined;
  /** Evaluates beside the model also what inference makes of it with the weights of its matrix products in 8 or 4 bits. */
  readonly quantize?: QuantisedForm | undefined;
}

/** Losses in nats per token, over held-out text. */
export interface EvaluateResult {
  readonly checkpoint: string;
  readonly loss: number;
  readonly perplexity: number;
  /** The same of the model with its weights quantised, where that was asked for. */
  readonly quantised?: { readonly form: QuantisedForm; readonly loss: number; readonly perplexity: number };
  /** Sequences that were counted. */
  readonly sequences: number;
  readonly unigramEntropy: number;
  readonly documentMask: boolean;
}

/**
 * @throws InputError when the checkpoint is missing or damaged, or does not fit the options; NumericsError when the loss is
 *   not finite; InterruptedError
 */
export const evaluateJob = defineJob(import.meta.url, "evaluateJob", run);

function run(context: JobContext, task: EvaluateTask): EvaluateResult {
  const { corpus = "sotu", cache = ".scmoe/cache", batches = 256, batchSize: batch = 4 } = task;
  const { world } = context;
  const model = openModel(task.model);
  model.verify({ turn: world.rank, of: world.size });
  const { config, directory } = model;
  const documentMask = task.documentMask ?? (!isTokenFile(corpus) && wasDocumentMasked(directory));
  const sequence = task.sequence ?? defaultSequence(config.max_position_embeddings);
  if (sequence > config.max_position_embeddings)
    throw new InputError(
      `A sequence of ${sequence} is beyond the model's max_position_embeddings ${config.max_position_embeddings}`,
    );
  const data = openHeldOut(
    {
      corpus,
      encoding: task.encoding,
      say: (line) => context.say(line),
      vocabSize: config.vocab_size,
      tokenizer: model.tokenizer,
      cacheDirectory: cache,
      onProgress: (what, share) => {
        if (context.interrupted()) throw new InterruptedError("Interrupted while preparing data");
        context.progress(`${what} ${(share * 100).toFixed(0)} %`);
      },
    },
    directory,
  );
  if (documentMask && data.endOfText === undefined)
    throw new InputError(`A token file does not say where documents end; leave out the document mask`);
  const shape: EvaluateShape = {
    sequence,
    batch,
    sequences: batches,
    withCapacity: task.capacity ?? false,
    endOfText: documentMask ? data.endOfText : undefined,
  };
  const { loss, sequences } = evaluateModel(model, { world, file: data.validation, shape });
  const { quantize: form } = task;
  let quantised: EvaluateResult["quantised"];
  if (form !== undefined) {
    // The first model's memory, before another is read.
    collectGarbage();
    const found = evaluateModel(openModel(directory), { world, file: data.validation, shape, form });
    quantised = { form, loss: found.loss, perplexity: Math.exp(found.loss) };
  }
  return {
    checkpoint: directory,
    loss,
    perplexity: Math.exp(loss),
    ...(quantised && { quantised }),
    sequences,
    unigramEntropy: data.unigramEntropy,
    documentMask,
  };
}

/** Reads the model and closes it. @param of.form holds its weights in that form, as inference does */
function evaluateModel(
  { config, source }: OpenModel,
  of: {
    readonly world: Communicator;
    readonly file: TokenFile;
    readonly shape: EvaluateShape;
    readonly form?: WeightForm;
  },
): { readonly loss: number; readonly sequences: number } {
  const { world, file, shape, form } = of;
  const engine = createOrtEngine();
  // Any number of ranks will do: experts are shared as far as they divide.
  const places = { config, engine, world, epSize: greatestDivisor(world.size, config.num_experts) };
  try {
    if (form !== undefined) {
      const rank = createInferenceRank({ ...places, source, form });
      const evaluator = new Evaluator(rank, file, shape);
      rank.weights.close();
      return { loss: evaluator.run(), sequences: evaluator.sequences };
    }
    const rank = createRank(places);
    loadWeights(rank, source);
    source.close();
    const evaluator = new Evaluator(rank, file, shape);
    return { loss: evaluator.run(), sequences: evaluator.sequences };
  } finally {
    engine.dispose();
  }
}
