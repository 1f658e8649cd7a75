import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { parseLink } from "../../comm/link.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { openGenerator } from "../../infer/generate.js";
import { launch } from "../../launch/launch.js";
import { type RunConfig, readRunConfig } from "../../train/config.js";
import type { TrainOptions, TrainResult } from "../../train/trainer.js";
import { formatTable, printJson, wholeNumber } from "../options.js";

const MODELS = [
  { arch: "top2", policy: "sequential", title: "top-2, sequential" },
  { arch: "scmoe-pos2", policy: "adaptive", title: "ScMoE, overlapped" },
] as const;
const PROMPT = "My fellow citizens,";

export function addStart(program: Command): void {
  program
    .command("start")
    .description(
      "the tour: train a top-2 MoE and a ScMoE model on English text, on two ranks with a slow link, and compare",
    )
    .option("--steps <n>", "training steps of each model", wholeNumber, 200)
    .option("--out <dir>", "where the run directories go", "runs/start")
    .option("--link <rate,latency>", "link between the two ranks", "100mbit,50us")
    .option("--json", "print the comparison as JSON")
    .action(async (flags: { steps: number; out: string; link: string; json?: boolean }) => {
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
        process.stderr.write(`\n${model.title}: 2 ranks, link ${flags.link}\n`);
        const { result, interrupted } = await launch<TrainResult>(
          { job: "train", options },
          { ranks: 2, link: parseLink(flags.link), handleSignals: true },
        );
        results.push(result);
        if (interrupted) {
          process.stderr.write(`Continue with: npx scmoe train --ranks 2 --resume ${directory}\n`);
          process.exitCode = 130;
          return;
        }
      }
      const samples = results.map((result) => sampleOf(result.directory));
      if (flags.json) return printJson(results.map((result, i) => ({ ...result, sample: samples[i] })));
      process.stdout.write(`\n${compare(results)}\n`);
      results.forEach((_, i) => {
        process.stdout.write(`\n${MODELS[i].title} writes: ${PROMPT}${samples[i]}\n`);
      });
      process.stdout.write(
        `\nNext: npx scmoe generate ${results[1].directory} --prompt "Our nation"\n      npx scmoe eval ${results[1].directory}\n`,
      );
    });
}

function configOf(model: (typeof MODELS)[number], steps: number): RunConfig {
  return readRunConfig(undefined, [
    "model.preset=tiny",
    `model.arch=${model.arch}`,
    `schedule.policy=${model.policy}`,
    `train.steps=${steps}`,
    "train.batch_size=16",
    "train.learning_rate=0.003",
    "train.eval_interval=50",
    "train.checkpoint_interval=100",
  ]);
}

function sampleOf(directory: string): string {
  const engine = createOrtEngine();
  const options = { maxNewTokens: 60, temperature: 0.8, topK: 40, seed: 1 };
  const text = openGenerator(directory, engine).generate(PROMPT, options);
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
