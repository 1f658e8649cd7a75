import type { Command } from "commander";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { openGenerator } from "../../infer/generate.js";
import { positiveNumber, printJson, wholeNumber } from "../options.js";

interface Flags {
  readonly prompt: string;
  readonly tokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly seed: number;
  readonly json?: boolean;
}

export function addGenerate(program: Command): void {
  program
    .command("generate")
    .description("write text with a trained model")
    .argument("<dir>", "run directory or checkpoint")
    .option("-p, --prompt <text>", "text to go on from", "")
    .option("--tokens <n>", "new tokens at most", wholeNumber, 100)
    .option("--temperature <t>", "0: always the likeliest token", positiveNumber, 0.8)
    .option("--top-k <k>", "only the k likeliest tokens; 0: all", wholeNumber, 40)
    .option("--seed <n>", "same seed, same text", wholeNumber, 0)
    .option("--json", "print the result as JSON")
    .action((directory: string, flags: Flags) => {
      const engine = createOrtEngine();
      const generator = openGenerator(directory, engine);
      const { prompt, tokens: maxNewTokens, temperature, topK, seed } = flags;
      const show = (text: string): void => void process.stdout.write(text);
      if (!flags.json) show(prompt);
      const options = { maxNewTokens, temperature, topK, seed };
      const text = generator.generate(prompt, options, flags.json ? undefined : show);
      if (flags.json) printJson({ prompt, text, ...options });
      else show("\n");
      engine.dispose();
    });
}
