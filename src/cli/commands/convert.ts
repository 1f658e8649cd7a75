import { type Command, InvalidArgumentError } from "commander";
import { type ConvertModelOptions, type Converted, convert } from "../../api/convert.js";
import { BOUNDS } from "../../core/bounds.js";
import {
  CORPUS,
  ENCODING,
  IGNORE_MEMORY,
  RANKS,
  collect,
  encodingName,
  numberIn,
  print,
} from "../options.js";
import { SPEAKS, openTerminal } from "../terminal.js";

interface Flags extends Omit<ConvertModelOptions, "source" | "onEvent" | "signal" | "sets"> {
  readonly set: readonly string[];
  readonly json?: boolean;
}

const SHARE = { from: 0, to: 1 };

export function addConvert(program: Command): void {
  program
    .command("convert")
    .description(
      "make another architecture of a trained model: of a top-k one a ScMoE, of a dense one a mixture",
    )
    .argument("<source>", "run directory, checkpoint or folder")
    .requiredOption("--to <arch>", "architecture to convert to, e.g. scmoe-pos2")
    .requiredOption("-o, --out <dir>", "where the converted model goes; empty or not there yet")
    .option(
      "--train-steps <n>",
      "train on, with the source as teacher; <dir> is then a run",
      numberIn(BOUNDS.steps),
    )
    .option("--set <key=value>", "with --train-steps: a key of that training", collect, [])
    .option(
      "--link <rate,latency>",
      "say what a step gains on this link (measured on two ranks of this machine)",
    )
    .option(
      "--communication-share <s>",
      "or on a link so slow that communication takes this share of sequential top-2's forward pass",
      numberIn(BOUNDS.properShare),
    )
    .option("--cluster <name>", "or on a cluster (predicted; scmoe plan --help lists them)")
    .option("--shared <how>", "a shared expert where there is none: mean or most-used", sharedExpert)
    .option(
      "--routed-share <s>",
      "of a block's output, with which routed experts begin beside a new shared expert (default 0.75; of a dense source 0.1)",
      numberIn(SHARE),
    )
    .option("--experts <n>", "of a dense source: experts per MoE block (default 8)", numberIn(BOUNDS.experts))
    .option(
      "--interval <n>",
      "of a dense source: every n-th block becomes MoE (default 2)",
      numberIn(BOUNDS.layers),
    )
    .option(
      "--noise <s>",
      "of a dense source: noise of its experts, relative to their weights (default 0.01)",
      numberIn(SHARE),
    )
    .option("--seed <n>", "of noise and new gates (default 0)", numberIn(BOUNDS.seed))
    .option("--corpus <source>", `${CORPUS} (default: that of the source's run, else sotu)`)
    .option("--encoding <name>", ENCODING, encodingName)
    .option("--cache <dir>", "where prepared token files are kept", ".scmoe/cache")
    .option("--batches <n>", "held-out sequences for losses at most (default 128)", numberIn(BOUNDS.batches))
    .option("--batch-size <n>", "sequences per rank at a time (default 4)", numberIn(BOUNDS.batch))
    .option(
      "--sequence <n>",
      "tokens per sequence (default: as the source was trained)",
      numberIn(BOUNDS.sequence),
    )
    .option("-n, --ranks <n>", "ranks", RANKS)
    .option(...IGNORE_MEMORY)
    .option("--json", "print the result as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (source: string, { json, set: sets, ...flags }: Flags) => {
      const terminal = openTerminal({ stops: flags.trainSteps !== undefined });
      const { onEvent, signal } = terminal;
      const result = await convert({ source, ...flags, sets, onEvent, signal }).finally(terminal.close);
      if (!SPEAKS) return;
      print({ json }, result, describe(result));
      const { trained } = result;
      if (trained?.interrupted) {
        process.stderr.write(`Continue with: scmoe train --resume ${trained.directory}\n`);
        process.exitCode = 130;
      }
    });
}

const EXAMPLES = `
Examples:
  scmoe convert runs/top2 --to scmoe-pos2 --out runs/converted
  scmoe convert runs/top2 --to scmoe-pos2 --out runs/converted --train-steps 400 --link 100mbit
  scmoe convert runs/dense --to scmoe-pos2 --experts 8 --out runs/upcycled --train-steps 400
  scmoe train --from runs/converted --set train.distill.teacher=runs/top2 --out runs/further`;

export function sharedExpert(text: string): "mean" | "most-used" {
  if (text === "mean" || text === "most-used") return text;
  throw new InvalidArgumentError("wanted mean or most-used.");
}

const millions = (n: number): string => `${(n / 1e6).toFixed(2)} M`;

function describe({ trained, gain, ...result }: Converted): string {
  const { directory, from, to, sourceLoss, convertedLoss, parameters } = result;
  const { source, target } = parameters;
  const losses = [
    ["source", sourceLoss],
    ["converted", convertedLoss],
    [`after ${trained?.steps ?? 0} steps`, trained?.validationLoss ?? null],
  ] as const;
  const known = losses.flatMap(([name, loss]) => (loss === null ? [] : [`${name} ${loss.toFixed(4)}`]));
  return [
    `${from} → ${to}: ${directory}${trained === null ? "" : `; run ${trained.directory}`}`,
    `parameters ${millions(source.total)} → ${millions(target.total)}, active per token ${millions(source.active)} → ${millions(target.active)}`,
    ...(known.length === 0 ? [] : [`validation loss: ${known.join(", ")}`]),
    ...(gain ?? []).map(
      ({ mode, sourceMs, targetMs, speedUp }) =>
        `${mode === "train" ? "forward and backward" : "forward"}: ${from} sequential ${sourceMs.toFixed(1)} ms, ${to} overlapped ${targetMs.toFixed(1)} ms: ${speedUp.toFixed(2)} × as fast`,
    ),
  ].join("\n");
}
