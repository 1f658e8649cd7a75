import { type Command, InvalidArgumentError } from "commander";
import { SAMPLING, generate } from "../../api/generate.js";
import { BOUNDS, fits } from "../../core/bounds.js";
import type { SamplingOptions } from "../../infer/sampling-parameters.js";
import { IGNORE_MEMORY, collect, numberIn, printJson } from "../options.js";
import { openTerminal } from "../terminal.js";

interface Flags extends Omit<SamplingOptions, "maxNewTokens"> {
  readonly prompt: string;
  readonly ids?: number[];
  readonly tokens: number;
  readonly stop: string[];
  readonly ignoreMemory?: boolean;
  readonly json?: boolean;
}

/** Digits only, as everywhere: what favours repetition is for programs. */
const PENALTY = numberIn({ ...BOUNDS.penalty, from: 0 });

export function addGenerate(program: Command): void {
  program
    .command("generate")
    .description("write text with a trained model")
    .argument("<dir>", "run directory, checkpoint or published folder")
    .option("-p, --prompt <text>", "text to go on from; empty: a new document", "")
    .option(
      "--ids <list>",
      "token ids to go on from instead of a prompt, 1,2,3; new ones are printed as ids",
      tokenIds,
    )
    .option(
      "--tokens <n>",
      "new tokens at most; an end of text stops earlier",
      numberIn({ ...BOUNDS.newTokens, from: 1 }),
      SAMPLING.maxNewTokens,
    )
    .option(
      "--temperature <t>",
      "0: always the likeliest token",
      numberIn(BOUNDS.temperature),
      SAMPLING.temperature,
    )
    .option("--top-k <k>", "only the k likeliest tokens; 0: all", numberIn(BOUNDS.topK), SAMPLING.topK)
    .option(
      "--top-p <p>",
      "only the likeliest tokens that together have this probability",
      numberIn(BOUNDS.topP),
      SAMPLING.topP,
    )
    .option(
      "--min-p <p>",
      "only tokens at least so likely, relative to the likeliest; 0: all",
      numberIn(BOUNDS.minP),
      SAMPLING.minP,
    )
    .option(
      "--repetition-penalty <x>",
      "above 1: less of what stands in prompt and text",
      numberIn(BOUNDS.repetitionPenalty),
      SAMPLING.repetitionPenalty,
    )
    .option(
      "--presence-penalty <x>",
      "taken off the logits of tokens in the text",
      PENALTY,
      SAMPLING.presencePenalty,
    )
    .option(
      "--frequency-penalty <x>",
      "the same for each time that they stand there",
      PENALTY,
      SAMPLING.frequencyPenalty,
    )
    .option("--stop <text>", "ends the text before this one; repeatable", collect, [])
    .option("--seed <n>", "same seed, same text", numberIn(BOUNDS.seed), SAMPLING.seed)
    .option(...IGNORE_MEMORY)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe generate runs/first --prompt "My fellow citizens"
  scmoe generate runs/first --temperature 0 --tokens 50
  scmoe generate models/llama --ids 1,306,4658 --temperature 0
  scmoe generate runs/first --top-k 0 --top-p 0.9 --seed 7 --json
  scmoe generate runs/first --repetition-penalty 1.1 --stop "The end" --stop Applause`,
    )
    .action(async (model: string, flags: Flags) => {
      const { prompt, ids, tokens: maxNewTokens, stop, ignoreMemory, json, ...rest } = flags;
      // Only once the model is there: an error stands alone.
      let unsaid = prompt;
      const show = (text: string): void => {
        process.stdout.write(unsaid + text);
        unsaid = "";
      };
      const options = { maxNewTokens, ...rest, stop };
      const how = { ignoreMemory, onEvent: openTerminal().onEvent };
      if (json)
        return printJson({
          ...(ids === undefined ? { prompt } : { prompt: ids }),
          ...(await generate({ model, prompt, ids, ...options, ...how })),
          ...options,
        });
      if (ids !== undefined) {
        const { ids: written } = await generate({ model, prompt, ids, ...options, ...how });
        process.stdout.write(`${written.join(",")}\n`);
        return;
      }
      await generate({ model, prompt, ...options, ...how, onText: show });
      show("\n");
    });
}

/** "1,2,3". @throws InvalidArgumentError */
export function tokenIds(text: string): number[] {
  const ids = text.split(/[\s,]+/).filter((part) => part !== "");
  if (ids.length === 0 || ids.some((part) => !fits(Number(part), BOUNDS.tokenId)))
    throw new InvalidArgumentError("wanted token ids such as 1,2,3");
  return ids.map(Number);
}
