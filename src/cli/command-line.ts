/** The command line as a parser: all commands with their options. Running one is left to whoever parses with it. */
import { Command } from "commander";
import { oneLine } from "../core/shown.js";
import { VERSION } from "../core/version.js";
import { addBench } from "./commands/bench.js";
import { addConvert } from "./commands/convert.js";
import { addData } from "./commands/data.js";
import { addDoctor } from "./commands/doctor.js";
import { addEval } from "./commands/eval.js";
import { addExport } from "./commands/export.js";
import { addGenerate } from "./commands/generate.js";
import { addLaunch } from "./commands/launch.js";
import { addPlan } from "./commands/plan.js";
import { addServe } from "./commands/serve.js";
import { addStart } from "./commands/start.js";
import { addTokenizer } from "./commands/tokenizer.js";
import { addTrain } from "./commands/train.js";
import { addVerify } from "./commands/verify.js";

/**
 * What `scmoe` understands. Mistakes of usage, and help, throw commander's error once their text has been written.
 * @param speaks whether usage and its mistakes are explained on the terminal
 */
export function commandLine({ speaks }: { readonly speaks: boolean }): Command {
  const program = new Command("scmoe")
    .description(
      "Train, run and plan shortcut-connected mixture-of-experts transformers under overlapped expert parallelism",
    )
    .version(VERSION)
    .showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(usageLine(text)) })
    .exitOverride()
    .configureOutput(speaks ? {} : { writeErr: () => undefined, writeOut: () => undefined })
    .enablePositionalOptions()
    .addHelpText(
      "after",
      `
Examples:
  scmoe train --out runs/first                       a small ScMoE model on the built-in corpus
  scmoe train --ranks 2 --link 1gbit,50us --set schedule.policy=adaptive
  scmoe train --resume runs/first                    go on after Ctrl-C or a crash
  scmoe eval runs/first
  scmoe generate runs/first --prompt "My fellow citizens"
  scmoe serve runs/first                             OpenAI's wire format on port 8000`,
    );
  for (const add of [
    addTrain,
    addLaunch,
    addEval,
    addGenerate,
    addServe,
    addConvert,
    addExport,
    addData,
    addTokenizer,
    addVerify,
    addDoctor,
    addBench,
    addPlan,
    addStart,
  ])
    add(program);
  return program;
}

/** Commander's message and its suggestion as one line. */
function usageLine(text: string): string {
  const line = text
    .trim()
    .replace(/^error: /, "")
    .replace(/\s*\n\s*/g, " ");
  return `scmoe: ${oneLine(line)} (--help shows the usage)\n`;
}
