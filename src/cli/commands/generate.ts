import { type Command, InvalidArgumentError } from "commander";
import { SAMPLING, generate } from "../../api/generate.js";
import { BOUNDS, fits } from "../../core/bounds.js";
import type { SamplingOptions } from "../../infer/sampling.js";
import { IGNORE_MEMORY, numberIn, printJson } from "../options.js";
import { openTerminal } from "../terminal.js";

interface Flags extends Omit<SamplingOptions, "maxNewTokens"> {
  readonly prompt: string;
  readonly ids?: number[];
  readonly tokens: number;
  readonly ignoreMemory?: boolean;
  readonly json?: boolean;
}

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
  scmoe generate runs/first --top-k 0 --top-p 0.9 --seed 7 --json`,
    )
    .action(async (model: string, flags: Flags) => {
      const { prompt, ids, tokens: maxNewTokens, temperature, topK, topP, seed } = flags;
      // Only once the model is there: an error stands alone.
      let unsaid = prompt;
      const show = (text: string): void => {
        process.stdout.write(unsaid + text);
        unsaid = "";
      };
      const options = { maxNewTokens, temperature, topK, topP, seed };
      const how = { ignoreMemory: flags.ignoreMemory, onEvent: openTerminal().onEvent };
      if (flags.json)
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
