import type { Command } from "commander";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { openGenerator } from "../../infer/generate.js";
import { countNumber, positiveNumber, printJson, probability, wholeNumber } from "../options.js";

interface Flags {
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly json?: boolean;
}

export function addGenerate(program: Command): void {
  program
    .command("generate")
    .description("write text with a trained model")
    .argument("<dir>", "run directory or checkpoint")
    .option("-p, --prompt <text>", "text to go on from; empty: a new document", "")
    .option("--tokens <n>", "new tokens at most; an end of text stops earlier", countNumber, 100)
    .option("--temperature <t>", "0: always the likeliest token", positiveNumber, 0.8)
    .option("--top-k <k>", "only the k likeliest tokens; 0: all", wholeNumber, 40)
    .option("--top-p <p>", "only the likeliest tokens that together have this probability", probability, 1)
    .option("--seed <n>", "same seed, same text", wholeNumber, 0)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe generate runs/first --prompt "My fellow citizens"
  scmoe generate runs/first --temperature 0 --tokens 50
  scmoe generate runs/first --top-k 0 --top-p 0.9 --seed 7 --json`,
    )
    .action((directory: string, flags: Flags) => {
      const engine = createOrtEngine();
      const generator = openGenerator(directory, engine);
      const { prompt, tokens: maxNewTokens, temperature, topK, topP, seed } = flags;
      const show = (text: string): void => void process.stdout.write(text);
      if (!flags.json) show(prompt);
      const options = { maxNewTokens, temperature, topK, topP, seed };
      const written = generator.generate(prompt, options, flags.json ? undefined : show);
      if (flags.json) printJson({ prompt, ...written, ...options });
      else show("\n");
      engine.dispose();
    });
}
