import type { Command } from "commander";
import { type EvaluateOptions, evaluate } from "../../api/evaluate.js";
import { BOUNDS } from "../../core/bounds.js";
import { DEFAULT_ENCODING } from "../../data/encoding.js";
import { CORPUS, ENCODING, IGNORE_MEMORY, RANKS, encodingName, numberIn, print } from "../options.js";
import { SPEAKS, openTerminal } from "../terminal.js";

interface Flags extends Omit<EvaluateOptions, "model" | "onEvent"> {
  readonly json?: boolean;
}

export function addEval(program: Command): void {
  program
    .command("eval")
    .description("validation loss and perplexity of a run, a checkpoint or a published folder")
    .argument("<dir>", "run directory, checkpoint or published folder")
    .option("--corpus <source>", CORPUS, "sotu")
    .option("--encoding <name>", ENCODING, encodingName, DEFAULT_ENCODING)
    .option("--cache <dir>", "where prepared token files are kept", ".scmoe/cache")
    .option(
      "--batches <n>",
      "sequences at most, on all ranks together; each counts once",
      numberIn(BOUNDS.batches),
      256,
    )
    .option("--batch-size <n>", "sequences per rank at a time", numberIn(BOUNDS.batch), 4)
    .option("--sequence <n>", "tokens per sequence (default: the model's longest)", numberIn(BOUNDS.sequence))
    .option("--document-mask", "no document sees another in its window (default: as the run was trained)")
    .option("--no-document-mask", "documents in a window see each other")
    .option("--capacity", "drop tokens beyond the model's capacity_factor, as training does")
    .option("--quantize <form>", "int8 or int4: also the loss with weights as inference holds them then")
    .option("-n, --ranks <n>", "ranks", RANKS)
    .option(...IGNORE_MEMORY)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe eval runs/first                               held-out part of the built-in corpus
  scmoe eval runs/first --quantize int4               and what 4-bit weights cost
  scmoe eval runs/first --corpus book.txt --sequence 64
  scmoe eval runs/first/checkpoints/step-00000200 --json`,
    )
    .action(async (model: string, { json, ...flags }: Flags) => {
      const terminal = openTerminal();
      const { onEvent } = terminal;
      const result = await evaluate({ model, ...flags, onEvent }).finally(terminal.close);
      const { quantised } = result;
      const cost =
        quantised === undefined
          ? ""
          : `\n${quantised.form} weights: loss ${quantised.loss.toFixed(4)} (${signed(quantised.loss - result.loss)}), perplexity ${quantised.perplexity.toFixed(2)}`;
      const text = `${result.checkpoint}: loss ${result.loss.toFixed(4)} nats per token, perplexity ${result.perplexity.toFixed(2)} over ${result.sequences} sequences (unigram entropy ${result.unigramEntropy.toFixed(3)})${cost}`;
      if (SPEAKS) print({ json }, result, text);
    });
}

const signed = (difference: number): string =>
  `${difference < 0 ? "−" : "+"}${Math.abs(difference).toFixed(4)}`;
