/** Writes text with a model: the whole context is computed anew for each token. */
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import { type Tokenizer, loadTokenizer } from "../data/tokenizer.js";
import type { Engine } from "../engine/engine.js";
import { type ModelConfig } from "../model/config.js";
import { type ModelProgram, buildProgram } from "../model/wiring.js";
import { actionTable } from "../run/actions/index.js";
import { type Plan, execute } from "../run/executor.js";
import { type Rank, createRank } from "../run/rank.js";
import { sequential } from "../schedule/sequential.js";
import { CheckpointReader, findCheckpoint } from "../storage/checkpoint-dir.js";
import { checkpointConfig, loadCheckpoint } from "../train/checkpoint.js";
import { type SamplingOptions, sample } from "./sampling.js";
import { textStream } from "./text-stream.js";

export interface Generator {
  readonly tokenizer: Tokenizer;
  readonly config: ModelConfig;
  /**
   * `onText` hears each new piece of text; never a part of a character. A context longer than the model slides.
   * @throws InputError when the prompt has a token the model does not know
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
  const rank = createRank({ config, engine, world: singleCommunicator(), training: false });
  loadCheckpoint(rank, reader, { optimizer: false });
  reader.close();
  const tokenizer = loadTokenizer(reader.directory);
  if (tokenizer.vocabSize > config.vocab_size)
    throw new InputError(
      `${reader.directory}: tokenizer.json has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${config.vocab_size}; they belong to different models`,
    );
  const plans = new Map<number, { model: ModelProgram; plan: Plan }>();
  const planFor = (sequence: number) => {
    let found = plans.get(sequence);
    if (found === undefined) {
      const model = buildProgram(config, { batch: 1, sequence, epSize: 1, mode: "logits" });
      const { program } = model;
      const plan = {
        program,
        schedule: sequential(program),
        actions: actionTable(sequence),
        keep: new Set([model.output]),
      };
      plans.set(sequence, (found = { model, plan }));
    }
    return found;
  };
  return {
    tokenizer,
    config,
    async generate(prompt, options, { onText, signal } = {}) {
      const ids = tokenizer.encode(prompt);
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
        const window = ids.slice(-config.max_position_embeddings);
        const logits = nextLogits(
          rank,
          window,
          planFor(padded(window.length, config.max_position_embeddings)),
        );
        const next = sample(logits, options, newTokens);
        if (next === tokenizer.endOfText) {
          stopped = "end of text";
          break;
        }
        ids.push(next);
        stream.add(next);
      }
      return { text: stream.end(), newTokens, stopped };
    },
  };
}

/** Few lengths, so that few kernels are compiled; attention is causal, so what follows does not matter. */
function padded(length: number, limit: number): number {
  return Math.min(limit, Math.max(16, 2 ** Math.ceil(Math.log2(length))));
}

function nextLogits(
  rank: Rank,
  window: readonly number[],
  at: { model: ModelProgram; plan: Plan },
): Float32Array {
  const { sequence } = at.model.options;
  const tokens = new Int32Array(sequence);
  tokens.set(window);
  const feeds = new Map<number, unknown>([[at.model.tokens, { data: tokens, dims: [sequence] }]]);
  const run = execute(at.plan, { ...rank, scales: { balance: 0, z: 0 } }, feeds);
  const { data } = run.read<Tensor<Float32Array>>(at.model.output);
  const vocab = rank.config.vocab_size;
  const logits = Float32Array.from(data.subarray((window.length - 1) * vocab, window.length * vocab));
  run.release();
  return logits;
}
