import type { Command } from "commander";
import { announceMemory, rankPlaces } from "../../api/memory.js";
import { type TrainOptions, train } from "../../api/train.js";
import type { LineEvent } from "../../launch/job.js";
import { type RunConfig, listKeys } from "../../train/config.js";
import { openRun } from "../../train/open-run.js";
import type { TimelineSummary } from "../../timeline/timeline.js";
import type { TrainResult } from "../../train/train-job.js";
import { trainingNeed } from "../../train/memory-need.js";
import { IGNORE_MEMORY, RANKS, collect, megabytes, numberIn, print, printJson } from "../options.js";
import { SPEAKS, openTerminal } from "../terminal.js";

interface Flags extends Pick<
  TrainOptions,
  | "config"
  | "from"
  | "resume"
  | "allowChange"
  | "ranks"
  | "link"
  | "proveOverlap"
  | "timeline"
  | "ignoreMemory"
> {
  readonly set: string[];
  readonly out?: string;
  readonly deadline: number;
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
    .option(
      "--from <dir>",
      "start with the weights and tokenizer of a run, a checkpoint or a published folder; the optimiser is fresh",
    )
    .option("--resume <dir>", "continue a run from its last checkpoint, bit for bit as if it had not stopped")
    .option(
      "--allow-change",
      "with --resume: go on as another run, with another corpus, tokenizer, seed, batch or model key",
    )
    .option(
      "-n, --ranks <n>",
      "ranks, as threads of this process (under mpirun: MPI's); of a resumed run, as before",
      RANKS,
    )
    .option("--link <rate,latency>", "delay messages as a link would, e.g. 10gbit,20us (threads)")
    .option(
      "--deadline <seconds>",
      "longest wait for another rank",
      numberIn({ above: 0, to: 1_000_000 }),
      60,
    )
    .option(
      "--prove-overlap",
      "train a twin sequentially beside it and compare losses, gradients and weights byte by byte",
    )
    .option("--timeline", "draw timeline.html of a typical step on one rank, too (several ranks: always)")
    .option(
      "--dry-run",
      "print the resolved config as YAML, every key explained, and what memory it takes; train nothing",
    )
    .option(...IGNORE_MEMORY)
    .option("-q, --quiet", "no progress")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      () => `${EXAMPLES}\n\nKeys of --config and --set (default in brackets):\n${keyTable()}`,
    )
    .action(async (flags: Flags) => {
      const { config, set: sets, from, out: directory, resume, allowChange } = flags;
      const { ranks, link, proveOverlap, timeline } = flags;
      const source = { config, sets, from, directory, resume, allowChange };
      const run = openRun(source);
      const { ignoreMemory } = flags;
      if (flags.dryRun) {
        printConfig(run.config, flags.json ?? false);
        const onEvent = ({ line }: LineEvent): boolean => process.stderr.write(`${line}\n`);
        return announceMemory(
          trainingNeed(run.config, { ...rankPlaces(ranks ?? run.resume?.before.ranks), proveOverlap }),
          {
            ignoreMemory,
            onEvent,
          },
        );
      }
      const terminal = openTerminal({ quiet: flags.quiet, stops: true });
      const { onEvent, signal } = terminal;
      const deadlineMs = flags.deadline * 1e3;
      const how = { ranks, link, deadlineMs, onEvent, signal, proveOverlap, timeline, ignoreMemory };
      const result = await train({ ...source, ...how }).finally(terminal.close);
      if (!SPEAKS) return;
      print(flags, result, describe(result));
      if (result.interrupted && result.steps < run.config.train.steps) {
        process.stderr.write(`Continue with: scmoe train --resume ${result.directory}\n`);
        process.exitCode = 130;
      }
    });
}

const EXAMPLES = `
Examples:
  scmoe train --out runs/first                                  a small ScMoE model on the built-in corpus
  scmoe train --set model.arch=top2 --set train.steps=200       another architecture
  scmoe train -c mine.yaml --set train.seed=1 --dry-run         what would be trained
  scmoe train --ranks 2 --link 1gbit,50us --set train.checkpoint_interval=100
  scmoe train --from models/mixtral --out runs/tuned            fine-tune a published model
  scmoe train --resume runs/first                               after Ctrl-C, a crash or a full disk
  scmoe train --resume runs/first --set train.steps=2000        longer than first meant
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
function printConfig(config: RunConfig, asJson: boolean): void {
  if (asJson) return printJson(config);
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

function paceText(timing: TimelineSummary, tokensPerSecond: number): string {
  const { stepMs, computeMs, communicationMs, exposedMs, overlapShare } = timing;
  const hidden = communicationMs > 0 ? ` (${(overlapShare * 100).toFixed(0)} % hidden)` : "";
  return `${tokensPerSecond.toFixed(0)} tokens/s; typical step ${stepMs.toFixed(1)} ms: compute ${computeMs.toFixed(1)}, communication ${communicationMs.toFixed(1)}, exposed ${exposedMs.toFixed(1)}${hidden}`;
}

export function describe(result: TrainResult): string {
  const { parameters, timing, tokensPerSecond, memory } = result;
  const lines = [
    `${result.arch}: ${(parameters.total / 1e6).toFixed(2)} M parameters, ${(parameters.active / 1e6).toFixed(2)} M active per token`,
    `steps ${result.steps}, training loss ${result.trainLoss?.toFixed(4) ?? "–"}, validation loss ${result.validationLoss?.toFixed(4) ?? "–"} (unigram entropy ${result.unigramEntropy.toFixed(3)})`,
    ...(timing === null || tokensPerSecond === null ? [] : [paceText(timing, tokensPerSecond)]),
    `memory per rank: weights, gradients, optimiser ${megabytes(memory.stateBytes)}, activations ${megabytes(memory.activationBytes)} (predicted ${megabytes(memory.predictedBytes)}); peak of the process ${megabytes(memory.peakRssBytes)} (predicted ${megabytes(memory.neededBytes)})`,
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
