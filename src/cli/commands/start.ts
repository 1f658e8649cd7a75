import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { CompareOptions, CompareResult } from "../../bench/compare.js";
import { formatLink } from "../../comm/link.js";
import { InputError } from "../../core/errors.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { openGenerator } from "../../infer/generate.js";
import { launch } from "../../launch/launch.js";
import { preset } from "../../model/presets.js";
import { type RunConfig, readRunConfig } from "../../train/config.js";
import type { TrainOptions, TrainResult } from "../../train/train-job.js";
import { formatTable, positiveNumber, printJson, wholeNumber } from "../options.js";
import { comparisonTable, writeComparison } from "../comparison.js";

const MODELS = [
  { arch: "top2", policy: "sequential", title: "top-2, sequential" },
  { arch: "scmoe-pos2", policy: "adaptive", title: "ScMoE, overlapped" },
] as const;
const PRESET = "tiny-llama";
const RANKS = 2;
/** Sequences per rank. */
const BATCH = 8;
const PROMPT = "My fellow citizens,";

export function addStart(program: Command): void {
  program
    .command("start")
    .description(
      "the tour: train a top-2 MoE and a ScMoE model on English text, on two ranks with a slow link, and compare",
    )
    .option("--steps <n>", "training steps of each model", wholeNumber, 260)
    .option("--share <s>", "share of a sequential top-2 step that communication takes", positiveNumber, 0.6)
    .option("--out <dir>", "where the run directories go", "runs/start")
    .option("--json", "print the comparison as JSON")
    .action(async (flags: { steps: number; share: number; out: string; json?: boolean }) => {
      if (flags.share >= 1) throw new InputError(`--share is below 1; found ${flags.share}`);
      process.stderr.write("Measuring both models, to choose a link and to draw the timeline\n");
      const measured = await measureSteps(flags.share);
      writeComparison(flags.out, measured);
      const link = measured.link ?? undefined;
      const linkText = link === undefined ? "no link model" : formatLink(link);
      const results: TrainResult[] = [];
      for (const model of MODELS) {
        const directory = join(flags.out, model.arch);
        rmSync(directory, { recursive: true, force: true });
        const options: TrainOptions = {
          config: configOf(model, flags.steps),
          directory,
          resume: false,
          label: model.title,
        };
        process.stderr.write(`\n${model.title}: ${RANKS} ranks, link ${linkText}\n`);
        const { result, interrupted } = await launch<TrainResult>(
          { job: "train", options },
          { ranks: RANKS, link, handleSignals: true },
        );
        results.push(result);
        if (interrupted) {
          process.stderr.write(`Continue with: npx scmoe train --ranks 2 --resume ${directory}\n`);
          process.exitCode = 130;
          return;
        }
      }
      const samples = results.map((result) => sampleOf(result.directory));
      if (flags.json)
        return printJson({
          link,
          steps: measured.rows,
          models: results.map((result, i) => ({ ...result, sample: samples[i] })),
        });
      process.stdout.write(`\n${comparisonTable(measured, false)}\n\n${compare(results)}\n`);
      results.forEach((_, i) => {
        process.stdout.write(`\n${MODELS[i].title} writes: ${PROMPT}${samples[i]}\n`);
      });
      process.stdout.write(
        `\nThe steps as a picture: ${join(flags.out, "timeline.html")} (and timeline.json for Perfetto)\nNext: npx scmoe generate ${results[1].directory} --prompt "Our nation"\n      npx scmoe eval ${results[1].directory}\n`,
      );
    });
}

/** The same models, sizes and ranks as in the training that follows. */
async function measureSteps(share: number): Promise<CompareResult> {
  const { arch: _arch, ...model } = preset(PRESET);
  const options: CompareOptions = {
    model,
    cases: MODELS,
    modes: ["forward", "train", "train+reduce"],
    batch: BATCH,
    sequence: model.max_position_embeddings,
    rounds: 7,
    splitWeightGradients: false,
    wire: "f32",
    balanced: true,
    communicationShare: share,
    shareMode: "train+reduce",
    latencyMs: 0.05,
  };
  const { result } = await launch<CompareResult>(
    { job: "compare", options },
    { ranks: RANKS, handleSignals: false },
  );
  return result;
}

function configOf(model: (typeof MODELS)[number], steps: number): RunConfig {
  return readRunConfig(undefined, [
    `model.preset=${PRESET}`,
    `model.arch=${model.arch}`,
    `schedule.policy=${model.policy}`,
    `train.steps=${steps}`,
    `train.batch_size=${RANKS * BATCH}`,
    "train.learning_rate=0.004",
    // Long, for so short a run: an early peak costs half a nat.
    `train.warmup_steps=${Math.ceil(steps * 0.3)}`,
    "train.eval_interval=100",
    "train.checkpoint_interval=100",
  ]);
}

function sampleOf(directory: string): string {
  const engine = createOrtEngine();
  const options = { maxNewTokens: 60, temperature: 0.7, topK: 40, topP: 1, seed: 1 };
  const { text } = openGenerator(directory, engine).generate(PROMPT, options);
  engine.dispose();
  return text.replace(/\s+/g, " ");
}

function compare(results: readonly TrainResult[]): string {
  const rows = results.map((result, i) => [
    MODELS[i].title,
    result.validationLoss?.toFixed(3) ?? "–",
    result.tokensPerSecond.toFixed(0),
    `${(result.tokensPerSecond / results[0].tokensPerSecond).toFixed(2)} ×`,
    `${result.timing.communicationMs.toFixed(1)} ms`,
    `${result.timing.exposedMs.toFixed(1)} ms`,
    `${(result.parameters.total / 1e6).toFixed(2)} M`,
    `${(result.parameters.active / 1e6).toFixed(2)} M`,
  ]);
  const header = [
    "model",
    "validation loss",
    "tokens/s",
    "speed-up",
    "communication",
    "exposed",
    "parameters",
    "active",
  ];
  return `${formatTable(header, rows)}\nUnigram entropy of the validation text: ${results[0].unigramEntropy.toFixed(3)} nats`;
}
