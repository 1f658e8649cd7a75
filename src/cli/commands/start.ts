import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { compare } from "../../api/compare.js";
import { generate } from "../../api/generate.js";
import { type Trained, train } from "../../api/train.js";
import type { CompareResult } from "../../bench/compare.js";
import { formatLink } from "../../comm/link.js";
import { BOUNDS } from "../../core/bounds.js";
import type { RunInput } from "../../train/config.js";
import { comparisonTable, writeComparison } from "../comparison.js";
import { type Column, columnTable, numberIn, printJson } from "../options.js";
import { openTerminal } from "../terminal.js";

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
    .option("--steps <n>", "training steps of each model", numberIn(BOUNDS.steps), 260)
    .option(
      "--share <s>",
      "share of a sequential top-2 step that communication takes",
      numberIn(BOUNDS.properShare),
      0.6,
    )
    .option("--out <dir>", "where the run directories go", "runs/start")
    .option("--json", "print the comparison as JSON")
    .action(async (flags: { steps: number; share: number; out: string; json?: boolean }) => {
      process.stderr.write("Measuring both models, to choose a link and to draw the timeline\n");
      const measured = await measureSteps(flags.share);
      writeComparison(flags.out, measured);
      const link = measured.link ?? undefined;
      const linkText = link === undefined ? "no link model" : formatLink(link);
      const results: Trained[] = [];
      for (const model of MODELS) {
        const directory = join(flags.out, model.arch);
        rmSync(directory, { recursive: true, force: true });
        process.stderr.write(`\n${model.title}: ${RANKS} ranks, link ${linkText}\n`);
        const terminal = openTerminal({ stops: true });
        const { onEvent, signal } = terminal;
        const config = configOf(model, flags.steps);
        const how = { ranks: RANKS, link, onEvent, signal, label: model.title };
        const result = await train({ config, directory, ...how }).finally(terminal.close);
        results.push(result);
        if (result.interrupted) {
          process.stderr.write(`Continue with: npx scmoe train --resume ${directory}\n`);
          process.exitCode = 130;
          return;
        }
      }
      const samples: string[] = [];
      for (const { directory } of results) samples.push(await sampleOf(directory));
      if (flags.json)
        return printJson({
          link,
          steps: measured.rows,
          models: results.map((result, i) => ({ ...result, sample: samples[i] })),
        });
      process.stdout.write(`\n${comparisonTable(measured, false)}\n\n${describeModels(results)}\n`);
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
  const terminal = openTerminal();
  return compare({
    model: PRESET,
    cases: MODELS,
    modes: ["forward", "train", "step"],
    batch: BATCH,
    communicationShare: share,
    shareMode: "step",
    latencyMs: 0.05,
    ranks: RANKS,
    onEvent: terminal.onEvent,
  }).finally(terminal.close);
}

function configOf(model: (typeof MODELS)[number], steps: number): RunInput {
  return {
    model: { preset: PRESET, arch: model.arch },
    schedule: { policy: model.policy },
    train: {
      steps,
      batch_size: RANKS * BATCH,
      learning_rate: 0.004,
      // Long, for so short a run: an early peak costs half a nat.
      warmup_steps: Math.ceil(steps * 0.3),
      eval_interval: 100,
      checkpoint_interval: 100,
    },
  };
}

async function sampleOf(model: string): Promise<string> {
  const options = { maxNewTokens: 60, temperature: 0.7, seed: 1 };
  return (await generate({ model, prompt: PROMPT, ...options })).text.replace(/\s+/g, " ");
}

interface Model extends Trained {
  readonly title: string;
  readonly speedUp: number;
}

const COLUMNS: readonly Column<Model>[] = [
  { name: "model", text: ({ title }) => title },
  { name: "validation loss", text: ({ validationLoss }) => validationLoss?.toFixed(3) ?? "–" },
  { name: "tokens/s", text: ({ tokensPerSecond }) => tokensPerSecond?.toFixed(0) ?? "–" },
  { name: "speed-up", text: ({ speedUp }) => `${speedUp.toFixed(2)} ×` },
  { name: "communication", text: ({ timing }) => `${timing?.communicationMs.toFixed(1) ?? "–"} ms` },
  { name: "exposed", text: ({ timing }) => `${timing?.exposedMs.toFixed(1) ?? "–"} ms` },
  { name: "parameters", text: ({ parameters }) => `${(parameters.total / 1e6).toFixed(2)} M` },
  { name: "active", text: ({ parameters }) => `${(parameters.active / 1e6).toFixed(2)} M` },
];

function describeModels(results: readonly Trained[]): string {
  const models = results.map((result, i) => {
    const speedUp = (result.tokensPerSecond ?? NaN) / (results[0].tokensPerSecond ?? NaN);
    return { ...result, title: MODELS[i].title, speedUp };
  });
  return `${columnTable(COLUMNS, models)}\nUnigram entropy of the validation text: ${results[0].unigramEntropy.toFixed(3)} nats`;
}
