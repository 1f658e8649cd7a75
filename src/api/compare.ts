import {
  type CompareCase,
  type CompareOptions as Task,
  type CompareResult,
  compareJob,
} from "../bench/compare.js";
import { BOUNDS, checkBounds, defaultSequence } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { launch } from "../launch/launch.js";
import { type ModelInput, resolveModel } from "../model/config.js";
import { preset } from "../model/presets.js";
import { parsePolicy } from "../schedule/policy.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** What to measure: architectures × policies of one size of model. */
export interface CompareOptions extends RunOptions, Partial<Omit<Task, "model" | "cases">> {
  /** A preset's name, or a model without its architecture. */
  readonly model: string | Omit<ModelInput, "arch">;
  /** Pairs of an architecture and a policy, one row each. */
  readonly cases: readonly CompareCase[];
}

/**
 * Measures steps of architectures under policies side by side, in interleaved rounds, and predicts each of them from
 * its operators' measured costs. Default: forward and train, 4 sequences per rank of the model's longest, 7 rounds.
 * @throws InputError on an unknown architecture or policy, or a model that does not fit the ranks
 */
export async function compare(options: CompareOptions): Promise<CompareResult> {
  const how = launchOptions(options);
  const task = taskOf(options);
  if (task.communicationShare !== undefined && how.link !== undefined)
    throw new InputError("A share of communication chooses the link; leave out the link or the share");
  const { result } = await launch(compareJob, task, how);
  // The job knows a link only if it chose it.
  return { ...result, link: result.link ?? how.link ?? null };
}

function taskOf(options: CompareOptions): Task {
  checkBounds("compare", options, {
    epSize: BOUNDS.epSize,
    batch: BOUNDS.batch,
    microBatches: BOUNDS.batch,
    sequence: BOUNDS.sequence,
    rounds: BOUNDS.rounds,
    communicationShare: BOUNDS.properShare,
    latencyMs: BOUNDS.latencyMs,
  });
  const { arch: _arch, ...model } =
    typeof options.model === "string" ? preset(options.model) : { arch: "", ...options.model };
  for (const { arch, policy } of options.cases) {
    resolveModel({ ...model, arch }, "compare");
    parsePolicy(policy);
  }
  const share = options.communicationShare;
  return {
    model,
    cases: options.cases,
    modes: options.modes ?? ["forward", "train"],
    epSize: options.epSize,
    batch: options.batch ?? 4,
    sequence: options.sequence ?? defaultSequence(model.max_position_embeddings),
    rounds: options.rounds ?? 7,
    splitWeightGradients: options.splitWeightGradients ?? false,
    wire: options.wire ?? "f32",
    microBatches: options.microBatches ?? 1,
    wireGradients: options.wireGradients ?? "f32",
    balanced: options.balanced ?? true,
    communicationShare: share,
    shareMode: options.shareMode ?? "forward",
    latencyMs: options.latencyMs ?? 0.02,
  };
}
