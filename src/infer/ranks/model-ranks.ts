/** A model opened on ranks to write with: experts are shared as far as the ranks divide them, everything else is on every rank. */
import type { Communicator } from "../../comm/communicator.js";
import { greatestDivisor } from "../../core/divisor.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import type { WeightForm } from "../../kernel/quantise.js";
import { defineJob } from "../../launch/job.js";
import { createInferenceRank } from "../../run/inference-rank.js";
import { openModel } from "../../run/open-model.js";
import { tokenLogprob } from "../sampling/logprobs.js";
import { CachedModelRunner, type ModelRunnerOptions } from "./model-runner.js";
import { type ModelRunner, type RunnerEvent, serveModel } from "./rank-runner.js";
import { Sampler } from "../sampling/sampler.js";

/** What ranks are told. Plain data. */
export interface ModelTask extends Pick<
  ModelRunnerOptions,
  "slots" | "capacity" | "chunk" | "cacheBytes" | "policy"
> {
  /** Run directory, checkpoint or published folder. */
  readonly directory: string;
  readonly form: WeightForm;
}

/** @throws InputError when the model is missing, damaged or not supported */
export function openModelRunner(world: Communicator, task: ModelTask): ModelRunner {
  const { directory, form, ...options } = task;
  const model = openModel(directory);
  const { config } = model;
  const engine = createOrtEngine();
  const epSize = greatestDivisor(world.size, config.num_experts);
  const rank = createInferenceRank({ config, engine, world, epSize, source: model.source, form });
  const runner = new CachedModelRunner(rank, {
    ...options,
    config,
    epSize,
    session: { weights: "fixed" },
    sampling: {
      createSampler: (sampling, prompt) => new Sampler(sampling, prompt, config.vocab_size),
      tokenLogprob,
    },
  });
  rank.weights.close();
  model.close();
  return {
    shape: runner.shape,
    run: (plan, phases) => runner.run(plan, phases),
    answer: () => runner.answer(),
    close() {
      runner.close();
      engine.dispose();
    },
  };
}

export const modelJob = defineJob<ModelTask, void, RunnerEvent>(
  import.meta.url,
  "modelJob",
  (context, task) => serveModel(context, (world) => openModelRunner(world, task)),
);
