/** Writes text with a model: the whole context is computed anew for each token. */
import { singleCommunicator } from "../comm/single.js";
import { InputError, NumericsError } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import { type Tokenizer, encodePrompt, loadTokenizer } from "../data/tokenizer.js";
import type { Engine } from "../engine/engine.js";
import { type ModelConfig } from "../model/config.js";
import { type ModelProgram, buildProgram } from "../model/language-model.js";
import type { Schedule } from "../program/schedule.js";
import { checkpointConfig, loadWeights } from "../run/load-weights.js";
import { type Rank, createRank } from "../run/rank.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { findCheckpoint } from "../storage/checkpoint-names.js";
import { CheckpointReader } from "../storage/checkpoint-reader.js";
import { type SamplingOptions, sample } from "./sampling.js";
import { textStream } from "./text-stream.js";

export interface Generator {
  readonly tokenizer: Tokenizer;
  readonly config: ModelConfig;
  /**
   * `onText` hears each new piece of text; never a part of a character. A context longer than the model slides.
   * @throws InputError when the prompt has a token the model does not know; NumericsError when logits are not finite
   */
  generate(prompt: string, options: SamplingOptions, live?: Live): Promise<Written>;
}

/** What a caller hears and says while text is written. */
export interface Live {
  readonly onText?: ((text: string) => void) | undefined;
  /** Stops before the next token. */
  readonly signal?: AbortSignal | undefined;
}

/** Text that a model has written. */
export interface Written {
  /** The new text. */
  readonly text: string;
  readonly newTokens: number;
  readonly stopped: "length" | "end of text" | "aborted";
}

/** @throws InputError when the checkpoint is missing, damaged or has no tokenizer */
export function openGenerator(path: string, engine: Engine): Generator {
  const reader = new CheckpointReader(findCheckpoint(path));
  reader.verify();
  // A token must not be dropped because of its neighbours: at inference every expert takes all rows it is sent.
  const config: ModelConfig = { ...checkpointConfig(reader), capacity_factor: null };
  const rank = createRank({ config, engine, world: singleCommunicator() });
  loadWeights(rank, reader);
  reader.close();
  const tokenizer = loadTokenizer(reader.directory);
  if (tokenizer.vocabSize > config.vocab_size)
    throw new InputError(
      `${reader.directory}: tokenizer.json has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${config.vocab_size}; they belong to different models`,
    );
  const next = new NextToken(rank);
  return {
    tokenizer,
    config,
    async generate(prompt, options, { onText, signal } = {}) {
      const ids = encodePrompt(tokenizer, prompt);
      if (ids.length === 0) ids.push(tokenizer.endOfText);
      const stream = textStream(tokenizer, ids, onText);
      let newTokens = 0;
      let stopped: Written["stopped"] = "length";
      for (; newTokens < options.maxNewTokens; newTokens++) {
        // The event loop must turn for an abort to be seen.
        await new Promise((resolve) => setImmediate(resolve));
        if (signal?.aborted) {
          stopped = "aborted";
          break;
        }
        const context = ids.slice(-config.max_position_embeddings);
        const id = sample(next.logits(context), options, newTokens);
        if (id === tokenizer.endOfText) {
          stopped = "end of text";
          break;
        }
        ids.push(id);
        stream.add(id);
      }
      return { text: stream.end(), newTokens, stopped };
    },
  };
}

/** One session for contexts of any length: attention reads the rows' positions. */
class NextToken {
  readonly #model: ModelProgram;
  readonly #session: Session;
  readonly #schedule: Schedule;

  constructor(readonly rank: Rank) {
    const sequence = rank.config.max_position_embeddings;
    this.#model = buildProgram(rank.config, {
      batch: 1,
      sequence,
      epSize: 1,
      head: "logits",
      anyLength: true,
    });
    this.#session = new Session(rank, this.#model.program, { keep: [this.#model.output] });
    this.#schedule = sequential(this.#model.program);
  }

  /** Of the token that follows, [V]. */
  logits(context: readonly number[]): Float32Array {
    const dims = [context.length];
    const feeds = new Map<number, unknown>([
      [this.#model.tokens, { data: Int32Array.from(context), dims }],
      [this.#model.positions as number, { data: Int32Array.from(context.keys()), dims }],
    ]);
    const run = this.#session.run(this.#schedule, feeds);
    const { data } = run.read<Tensor<Float32Array>>(this.#model.output);
    const last = Float32Array.from(data.subarray(-this.rank.config.vocab_size));
    run.release();
    if (!last.every(Number.isFinite))
      throw new NumericsError(
        `The logits after ${context.length} tokens are not finite: the model's weights lead to values that are not`,
      );
    return last;
  }
}
