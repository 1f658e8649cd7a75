import { dirname, join } from "node:path";
import { existsSync, statSync } from "node:fs";
import type { Command } from "commander";
import { parseLink } from "../../comm/link.js";
import { InputError } from "../../core/errors.js";
import { launch } from "../../launch/launch.js";
import { readText } from "../../storage/files.js";
import { type RunConfig, listKeys, readRunConfig } from "../../train/config.js";
import { holdsRun } from "../../train/run-directory.js";
import type { TrainOptions, TrainResult } from "../../train/train-job.js";
import { collect, countNumber, megabytes, printJson } from "../options.js";

interface Flags {
  readonly config?: string;
  readonly set: string[];
  readonly out?: string;
  readonly resume?: string;
  readonly ranks?: number;
  readonly link?: string;
  readonly deadline: number;
  readonly proveOverlap?: boolean;
  readonly timeline?: boolean;
  readonly dryRun?: boolean;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

export function addTrain(program: Command): void {
  program
    .command("train")
    .description("train a model; writes a run directory that can be resumed, evaluated and sampled")
    .option("-c, --config <file>", "YAML with the sections model, data, train, parallel, schedule")
    .option(
      "--set <key=value>",
      "override one key, e.g. --set model.arch=top2 --set train.steps=200",
      collect,
      [],
    )
    .option("-o, --out <dir>", "run directory (default: runs/<arch>)")
    .option("--resume <dir>", "continue a run from its last checkpoint, bit for bit as if it had not stopped")
    .option("-n, --ranks <n>", "ranks, as threads of this process (under mpirun: MPI's)", countNumber)
    .option("--link <rate,latency>", "delay messages as a link would, e.g. 10gbit,20us (threads)")
    .option("--deadline <seconds>", "longest wait for another rank", countNumber, 60)
    .option(
      "--prove-overlap",
      "train a twin sequentially beside it and compare losses, gradients and weights byte by byte",
    )
    .option("--timeline", "draw timeline.html of a typical step on one rank, too (several ranks: always)")
    .option("--dry-run", "print the resolved config as YAML, every key explained, and train nothing")
    .option("-q, --quiet", "no progress")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      () => `${EXAMPLES}\n\nKeys of --config and --set (default in brackets):\n${keyTable()}`,
    )
    .action(async (flags: Flags) => {
      if (flags.dryRun) return printConfig(flags);
      const base = flags.resume === undefined ? freshRun(flags) : resumedRun(flags.resume, flags);
      const options = {
        ...base,
        proveOverlap: flags.proveOverlap ?? false,
        timeline: flags.timeline ?? false,
      };
      const { result, interrupted } = await launch<TrainResult>(
        { job: "train", options },
        {
          ranks: flags.ranks,
          link: flags.link === undefined ? undefined : parseLink(flags.link),
          deadlineMs: flags.deadline * 1e3,
          quiet: flags.quiet ?? false,
          handleSignals: true,
        },
      );
      if (result === undefined) return;
      if (flags.json) printJson({ ...result, interrupted });
      else process.stdout.write(`${describe(result)}\n`);
      if (interrupted && result.steps < options.config.train.steps) {
        process.stderr.write(`Continue with: scmoe train --resume ${result.directory}\n`);
        process.exitCode = 130;
      }
    });
}

function freshRun(flags: Flags): TrainOptions {
  const config = readRunConfig(flags.config, flags.set);
  const directory = flags.out ?? join("runs", String(config.model.arch));
  if (existsSync(directory) && !statSync(directory).isDirectory())
    throw new InputError(`--out ${directory} is a file; wanted a directory`);
  if (!flags.dryRun && holdsRun(directory))
    throw new InputError(
      `${directory} already holds a run; continue it with --resume ${directory}, or choose another --out`,
    );
  return { config, directory, resume: false };
}

/** @param path a run directory, or one of its checkpoints to go back to */
function resumedRun(path: string, flags: Flags): TrainOptions {
  if (flags.config !== undefined || flags.out !== undefined)
    throw new InputError("--resume takes the config and directory of the run; leave out --config and --out");
  const isCheckpoint = existsSync(join(path, "trainer_state.json"));
  const directory = isCheckpoint ? dirname(dirname(path)) : path;
  const file = join(directory, "run.json");
  if (!existsSync(file)) throw new InputError(`${directory} holds no run: ${file} is missing`);
  const text = readText(file, "the run");
  let stored: { config?: RunConfig } | null = null;
  try {
    stored = JSON.parse(text) as { config?: RunConfig } | null;
  } catch {
    throw new InputError(`${file} is damaged: it is not JSON`);
  }
  if (typeof stored?.config !== "object") throw new InputError(`${file} is damaged: it has no config`);
  const config = readRunConfig(undefined, flags.set, stored.config);
  return { config, directory, resume: true, checkpoint: isCheckpoint ? path : undefined };
}

const EXAMPLES = `
Examples:
  scmoe train --out runs/first                                  a small ScMoE model on the built-in corpus
  scmoe train --set model.arch=top2 --set train.steps=200       another architecture
  scmoe train -c mine.yaml --set train.seed=1 --dry-run         what would be trained
  scmoe train --ranks 2 --link 1gbit,50us --set train.checkpoint_interval=100
  scmoe train --resume runs/first                               after Ctrl-C, a crash or a full disk
  scmoe train --resume runs/first --set train.steps=2000        longer than planned
  scmoe train --resume runs/first/checkpoints/step-00000100     from an earlier checkpoint

A config file is YAML with the same keys in sections:
  model: { preset: small, arch: top2 }
  train: { steps: 500, batch_size: 16 }`;

function keyTable(): string {
  return listKeys()
    .map(({ key, type, defaultValue, description }) => {
      const shown = defaultValue === undefined ? "" : ` [${JSON.stringify(defaultValue)}]`;
      return `  ${`${key}: ${type}${shown}`.padEnd(48)} ${description}`.trimEnd();
    })
    .join("\n");
}

/** YAML that `--config` takes, each key with its explanation; or JSON. */
function printConfig(flags: Flags): void {
  const { config } = flags.resume === undefined ? freshRun(flags) : resumedRun(flags.resume, flags);
  if (flags.json) return printJson(config);
  const about = new Map(listKeys().map(({ key, description }) => [key, description]));
  const lines = Object.entries(config).flatMap(([section, keys]) => [
    `${section}:`,
    ...Object.entries(keys as Record<string, unknown>).map(([key, value]) => {
      const text = about.get(`${section}.${key}`);
      return `  ${`${key}: ${JSON.stringify(value)}`.padEnd(40)}${text ? ` # ${text}` : ""}`.trimEnd();
    }),
  ]);
  process.stdout.write(`${lines.join("\n")}\n`);
}

export function describe(result: TrainResult): string {
  const { parameters, timing, memory } = result;
  const lines = [
    `${result.arch}: ${(parameters.total / 1e6).toFixed(2)} M parameters, ${(parameters.active / 1e6).toFixed(2)} M active per token`,
    `steps ${result.steps}, training loss ${result.trainLoss.toFixed(4)}, validation loss ${result.validationLoss?.toFixed(4) ?? "–"} (unigram entropy ${result.unigramEntropy.toFixed(3)})`,
    `${result.tokensPerSecond.toFixed(0)} tokens/s; typical step ${timing.stepMs.toFixed(1)} ms: compute ${timing.computeMs.toFixed(1)}, communication ${timing.communicationMs.toFixed(1)}, exposed ${timing.exposedMs.toFixed(1)}${timing.communicationMs > 0 ? ` (${(timing.overlapShare * 100).toFixed(0)} % hidden)` : ""}`,
    `memory per rank: weights, gradients, optimiser ${megabytes(memory.stateBytes)}, activations ${megabytes(memory.activationBytes)} (planned with intermediate results: ${megabytes(memory.plannedBytes)}), peak resident ${megabytes(memory.peakRssBytes)}`,
    `schedule ${result.schedule}`,
    `run ${result.directory}${result.timeline === null ? "" : `; ${result.timeline} shows a typical step`}`,
  ];
  const { proof } = result;
  if (proof !== null)
    lines.push(
      `proof: over ${proof.steps} steps, sequential and overlapped differ in ${proof.differing} of ${proof.bytes} bytes of losses, gradients and weights`,
    );
  return lines.join("\n");
}
