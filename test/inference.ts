/** A small model, trained for a step, and what engines of different ranks and schedules write with it. */
import { train } from "../src/api/train.js";
import type { SampledToken } from "../src/infer/sampling/sampling-parameters.js";
import { GREEDY, type SamplingParameters } from "../src/infer/sampling/sampling-parameters.js";
import { type EngineOptions, openEngine } from "../src/infer/open-engine.js";
import type { InferenceEngine } from "../src/infer/engine.js";

/** @param model keys beside those of a model of 4 layers and 4 experts */
export async function smallModel(directory: string, model: object): Promise<void> {
  await train({
    config: {
      model: {
        vocab_size: 300,
        hidden_size: 32,
        intermediate_size: 64,
        num_attention_heads: 2,
        num_hidden_layers: 4,
        num_experts: 4,
        max_position_embeddings: 96,
        ...model,
      },
      train: { steps: 1, batch_size: 2, eval_batches: 1 },
      data: { sequence_length: 32 },
    },
    directory,
  });
}

/** What one sequence is given, and everything that is said of it. */
export interface Told {
  readonly tokens: readonly SampledToken[];
  readonly end: string;
}

export function write(
  engine: InferenceEngine,
  prompt: readonly number[],
  sampling: Partial<SamplingParameters>,
): Promise<Told> {
  return new Promise((resolve, reject) => {
    const tokens: SampledToken[] = [];
    engine.submit(
      { prompt, sampling: { ...GREEDY, ...sampling } },
      {
        token(token) {
          tokens.push(token);
          return undefined;
        },
        end: (end) => resolve({ tokens, end }),
        failed: reject,
      },
    );
  });
}

/** Opens an engine for as long as `use` takes. */
export async function withEngine<T>(
  directory: string,
  options: EngineOptions,
  use: (engine: InferenceEngine) => Promise<T>,
): Promise<T> {
  const opened = await openEngine(directory, options);
  if (opened === undefined) throw new Error("there is no launcher");
  try {
    return await use(opened.engine);
  } finally {
    await opened.engine.close();
  }
}
