import { type Command, InvalidArgumentError } from "commander";
import { type ConvertModelOptions, convert } from "../../api/convert.js";
import { BOUNDS } from "../../core/bounds.js";
import type { ConvertResult } from "../../train/convert.js";
import { CORPUS, ENCODING, IGNORE_MEMORY, RANKS, encodingName, numberIn, print } from "../options.js";
import { SPEAKS, openTerminal } from "../terminal.js";

interface Flags extends Omit<ConvertModelOptions, "source" | "onEvent" | "signal"> {
  readonly json?: boolean;
}

const SHARE = { from: 0, to: 1 };

export function addConvert(program: Command): void {
  program
    .command("convert")
    .description("make another architecture of a trained model: a top-k one a ScMoE, a dense one a mixture")
    .argument("<source>", "run directory, checkpoint or folder")
    .requiredOption("--to <arch>", "architecture to convert to, e.g. scmoe-pos2")
    .requiredOption("-o, --out <dir>", "where the converted model goes; empty or not there yet")
    .option("--shared <how>", "a shared expert where there is none: mean or most-used", sharedExpert)
    .option(
      "--routed-share <s>",
      "of a block's output, with which routed experts begin beside a new shared expert",
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
    .action(async (source: string, { json, ...flags }: Flags) => {
      const terminal = openTerminal();
      const { onEvent } = terminal;
      const result = await convert({ source, ...flags, onEvent }).finally(terminal.close);
      if (SPEAKS) print({ json }, result, describe(result));
    });
}

function sharedExpert(text: string): "mean" | "most-used" {
  if (text === "mean" || text === "most-used") return text;
  throw new InvalidArgumentError("wanted mean or most-used.");
}

function describe({ directory, from, to, sourceLoss, convertedLoss, parameters }: ConvertResult): string {
  const millions = (n: number): string => `${(n / 1e6).toFixed(2)} M`;
  const { source, target } = parameters;
  return [
    `${from} → ${to}: ${directory}`,
    `parameters ${millions(source.total)} → ${millions(target.total)}, active per token ${millions(source.active)} → ${millions(target.active)}`,
    ...(sourceLoss === null || convertedLoss === null
      ? []
      : [`validation loss ${sourceLoss.toFixed(4)} → ${convertedLoss.toFixed(4)} nats per token`]),
  ].join("\n");
}
