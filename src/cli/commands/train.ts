import { join } from "node:path";
import { existsSync, readFileSync } from "node:fs";
import type { Command } from "commander";
import { parseLink } from "../../comm/link.js";
import { InputError } from "../../core/errors.js";
import { launch } from "../../launch/launch.js";
import { type RunConfig, readRunConfig } from "../../train/config.js";
import { type TrainOptions, type TrainResult, holdsRun } from "../../train/trainer.js";
import { collect, megabytes, printJson, wholeNumber } from "../options.js";

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
    .option("-n, --ranks <n>", "ranks, as threads of this process (under mpirun: MPI's)", wholeNumber)
    .option("--link <rate,latency>", "delay messages as a link would, e.g. 10gbit,20us (threads)")
    .option("--deadline <seconds>", "longest wait for another rank", wholeNumber, 60)
    .option(
      "--prove-overlap",
      "train a twin sequentially beside it and compare losses, gradients and weights byte by byte",
    )
    .option("--timeline", "draw timeline.html of a typical step on one rank, too (several ranks: always)")
    .option("-q, --quiet", "no progress")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Common keys:
  model.preset      tiny, small, base, gpt2-moe-small, gpt2-moe-medium, gpt3-moe-xl, llama2-moe
  model.arch        dense, top1, top2, top3, shared, scmoe-pos1, scmoe-pos2, scmoe-pos3, scmoe-pos2-l0pos1, scmoe2-pos2, dgmoe, dgmoe-share
  data.corpus       sotu (built in), a text file, or a directory of .txt files
  train.steps, train.batch_size, train.learning_rate, train.eval_interval, train.checkpoint_interval, train.seed
  schedule.policy   sequential, pipelined(n), fixed(K), adaptive`,
    )
    .action(async (flags: Flags) => {
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
  if (holdsRun(directory))
    throw new InputError(
      `${directory} already holds a run; continue it with --resume ${directory}, or choose another --out`,
    );
  return { config, directory, resume: false };
}

function resumedRun(directory: string, flags: Flags): TrainOptions {
  if (flags.config !== undefined || flags.out !== undefined)
    throw new InputError("--resume takes the config and directory of the run; leave out --config and --out");
  const path = join(directory, "run.json");
  if (!existsSync(path)) throw new InputError(`${directory} holds no run: ${path} is missing`);
  let stored: { config: RunConfig };
  try {
    stored = JSON.parse(readFileSync(path, "utf8")) as { config: RunConfig };
  } catch {
    throw new InputError(`${path} is damaged: not JSON`);
  }
  const config = readRunConfig(undefined, flags.set, stored.config);
  return { config, directory, resume: true };
}

export function describe(result: TrainResult): string {
  const { parameters, timing, memory } = result;
  const lines = [
    `${result.arch}: ${(parameters.total / 1e6).toFixed(2)} M parameters, ${(parameters.active / 1e6).toFixed(2)} M active per token`,
    `steps ${result.steps}, training loss ${result.trainLoss.toFixed(4)}, validation loss ${result.validationLoss?.toFixed(4) ?? "–"} (unigram entropy ${result.unigramEntropy.toFixed(3)})`,
    `${result.tokensPerSecond.toFixed(0)} tokens/s; typical step ${timing.stepMs.toFixed(1)} ms: compute ${timing.computeMs.toFixed(1)}, communication ${timing.communicationMs.toFixed(1)}, exposed ${timing.exposedMs.toFixed(1)}${timing.communicationMs > 0 ? ` (${(timing.overlapShare * 100).toFixed(0)} % hidden)` : ""}`,
    `memory per rank: weights, gradients, optimiser ${megabytes(memory.stateBytes)}, activations ${megabytes(memory.activationBytes)}, peak resident ${megabytes(memory.peakRssBytes)}`,
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
