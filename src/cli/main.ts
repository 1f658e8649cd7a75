#!/usr/bin/env node
/** The command line. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted. */
import { Command, CommanderError } from "commander";
import { VERSION } from "../core/version.js";
import { addBench } from "./commands/bench.js";
import { addDataCommands } from "./commands/data.js";
import { addDoctor } from "./commands/doctor.js";
import { addEval } from "./commands/eval.js";
import { addGenerate } from "./commands/generate.js";
import { addPlan } from "./commands/plan.js";
import { addStart } from "./commands/start.js";
import { addTrain } from "./commands/train.js";
import { addVerify } from "./commands/verify.js";

const program = new Command("scmoe")
  .description(
    "Train, run and plan shortcut-connected mixture-of-experts transformers under overlapped expert parallelism",
  )
  .version(VERSION)
  .showSuggestionAfterError()
  .showHelpAfterError("(--help shows the options)")
  .exitOverride()
  .addHelpText(
    "after",
    `
Examples:
  scmoe train --out runs/first                       a small ScMoE model on the built-in corpus
  scmoe train --ranks 2 --link 1gbit,50us --set schedule.policy=adaptive
  scmoe train --resume runs/first                    go on after Ctrl-C or a crash
  scmoe eval runs/first
  scmoe generate runs/first --prompt "My fellow citizens"`,
  );
for (const add of [
  addTrain,
  addEval,
  addGenerate,
  addDataCommands,
  addVerify,
  addDoctor,
  addBench,
  addPlan,
  addStart,
])
  add(program);

try {
  await program.parseAsync();
} catch (thrown) {
  process.exitCode = report(thrown as Error & { exitCode?: number });
}

function report(error: Error & { exitCode?: number }): number {
  // Commander has printed its own line; help and version are not failures.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error.exitCode !== undefined) {
    process.stderr.write(`scmoe: ${error.message.split("\n")[0]}\n`);
    return error.exitCode;
  }
  process.stderr.write(`scmoe: internal error: ${error.stack ?? error.message}\n`);
  return 1;
}
