import { type Command, InvalidArgumentError, Option } from "commander";
import { type BatchLine, readBatch } from "../../api/batch-file.js";
import { batchShape } from "../../api/generate.js";
import type { GeneratorOptions } from "../../api/engine-options.js";
import { openGenerator } from "../../api/open-generator.js";
import { BOUNDS, fits } from "../../core/bounds.js";
import { InputError } from "../../core/errors.js";
import type { Generator, Written } from "../../infer/generate.js";
import { generateBatch } from "../../infer/generate-batch.js";
import { checkStopStrings } from "../../infer/text/stop-strings.js";
import { SAMPLING, type WritingOptions, tokensAtMost } from "../../infer/writing-options.js";
import { QUANTISED_FORMS } from "../../kernel/quantise.js";
import { IGNORE_MEMORY, RANKS, byteSize, collect, numberIn, printJson } from "../options.js";
import { type PromptFlags, inputName, readInput, readPrompt } from "../prompt-source.js";
import { openTerminal } from "../terminal.js";

interface Flags
  extends
    Omit<WritingOptions, "maxNewTokens">,
    Omit<PromptFlags, "text">,
    Omit<GeneratorOptions, "model" | "contextLength" | "cacheBytes" | "onEvent"> {
  readonly batch?: string;
  readonly tokens: number;
  readonly cacheMemory?: number;
  readonly json?: boolean;
}

/** Digits only, as everywhere: what favours repetition is for programs. */
const PENALTY = numberIn({ ...BOUNDS.penalty, from: 0 });

export function addGenerate(program: Command): void {
  program
    .command("generate")
    .description("write text with a trained model")
    .argument("<dir>", "run directory, checkpoint or published folder")
    .argument("[prompt]", "text to go on from; -: the standard input, as without a terminal and a prompt")
    .option("-p, --prompt <text>", "the same; empty: a new document")
    .option("--prompt-file <file>", "a UTF-8 text file to go on from; its last line break does not count")
    .option(
      "--ids <list>",
      "token ids to go on from instead of a prompt, 1,2,3; new ones are printed as ids",
      tokenIds,
    )
    .option(
      "--batch <file>",
      'requests to write together, one JSON object to a line: {"prompt": text or ids, "id": …, "maxNewTokens": …, "seed": …}; results on stdout, a line each, in their order; -: the standard input',
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
    .option(
      "--logprobs <n>",
      "with --json or --batch: log probabilities of each token, and of the n likeliest",
      numberIn(BOUNDS.logprobs),
    )
    .option("-n, --ranks <n>", "experts are spread over so many ranks; the same text", RANKS)
    .option("--link <rate,latency>", "delay messages as a link would, e.g. 10gbit,20us (threads)")
    .option("--policy <name>", "how transfers between ranks are hidden (default: adaptive)")
    .addOption(
      new Option("--quantize <form>", "hold weights of products in 8 or 4 bits").choices(QUANTISED_FORMS),
    )
    .option("--slots <n>", "texts that a rank writes at once (default: 8)", numberIn(BOUNDS.slots))
    .option(
      "--cache-memory <size>",
      "keys and values that a rank may hold, e.g. 512MB (default: what its texts need)",
      byteSize,
    )
    .option(...IGNORE_MEMORY)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe generate runs/first "My fellow citizens"
  scmoe generate runs/first --prompt-file question.txt --quantize int8
  cat question.txt | scmoe generate runs/first --temperature 0 --tokens 50
  scmoe generate runs/first --batch requests.jsonl --ranks 2 --logprobs 5
  scmoe generate models/llama --ids 1,306,4658 --temperature 0
  scmoe generate runs/first --top-k 0 --top-p 0.9 --seed 7 --json
  scmoe generate runs/first --repetition-penalty 1.1 --stop "The end" --stop Applause`,
    )
    .action((model: string, text: string | undefined, flags: Flags) =>
      flags.batch === undefined ? writeOne(model, text, flags) : writeMany(model, text, flags, flags.batch),
    );
}

async function writeOne(model: string, text: string | undefined, flags: Flags): Promise<void> {
  const { json = false, logprobs } = flags;
  if (logprobs !== undefined && !json)
    throw new InputError("--logprobs are part of the result as JSON; wanted --json, or --batch, with it");
  const prompt = await readPrompt({ ...flags, text });
  const writing = writingOf(flags);
  const shape = { slots: 1, contextLength: tokensAtMost([{ prompt, ...writing }]) };
  await withGenerator(model, { ...flags, ...shape }, async (generator, signal) => {
    // Only once the model is there: an error stands alone.
    let unsaid = typeof prompt === "string" ? prompt : "";
    const show = (piece: string): void => {
      process.stdout.write(unsaid + piece);
      unsaid = "";
    };
    const streams = !json && typeof prompt === "string";
    const live = { signal, onText: streams ? show : undefined };
    const written = await generator.generate(prompt, writing, live);
    if (json) printJson({ prompt, ...writing, ...written });
    else if (streams) show("\n");
    else process.stdout.write(`${written.ids.join(",")}\n`);
    return [written];
  });
}

async function writeMany(model: string, text: string | undefined, flags: Flags, file: string): Promise<void> {
  const { prompt, promptFile, ids } = flags;
  if ([text, prompt, promptFile, ids].some((source) => source !== undefined))
    throw new InputError("--batch has prompts of its own; leave out the others");
  const lines = readBatch(await readInput(file, "the requests"), inputName(file), writingOf(flags));
  const requests = lines.map(({ request }) => request);
  const shape = batchShape({ ...flags, requests });
  await withGenerator(model, { ...flags, ...shape }, (generator, signal) =>
    generateBatch(generator, requests, { signal, onWritten: (written, i) => printLine(lines[i], written) }),
  );
}

function printLine({ id }: BatchLine, written: Written): void {
  process.stdout.write(`${JSON.stringify({ id, ...written })}\n`);
}

/** Opens the model for as long as it takes. Ctrl-C ends the process until it is open, and the texts from then on. */
async function withGenerator(
  model: string,
  flags: Flags & Pick<GeneratorOptions, "contextLength">,
  write: (generator: Generator, signal: AbortSignal) => Promise<readonly Written[]>,
): Promise<void> {
  const {
    ranks,
    link,
    policy,
    quantize,
    slots,
    contextLength,
    cacheMemory: cacheBytes,
    ignoreMemory,
  } = flags;
  const { onEvent } = openTerminal();
  const generator = await openGenerator({
    ...{ model, ranks, link, policy, quantize, slots, contextLength, cacheBytes, ignoreMemory, onEvent },
  });
  // Of another rank of a launcher.
  if (generator === undefined) return;
  const terminal = openTerminal({ stops: true, stopping: "ending the text" });
  try {
    const written = await write(generator, terminal.signal);
    if (written.some(({ stopped }) => stopped === "aborted")) process.exitCode = 130;
  } finally {
    terminal.close();
    await generator.close();
  }
}

/** @throws InputError when a stop string is not one; the model need not be read for that */
function writingOf(flags: Flags): WritingOptions {
  const { temperature, topK, topP, minP, seed, stop = [], logprobs } = flags;
  checkStopStrings(stop);
  const { tokens: maxNewTokens, repetitionPenalty, presencePenalty, frequencyPenalty } = flags;
  return {
    ...{ maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty },
    ...{ seed, stop, logprobs },
  };
}

/** "1,2,3". @throws InvalidArgumentError */
export function tokenIds(text: string): number[] {
  const ids = text.split(/[\s,]+/).filter((part) => part !== "");
  if (ids.length === 0 || ids.some((part) => !fits(Number(part), BOUNDS.tokenId)))
    throw new InvalidArgumentError("wanted token ids such as 1,2,3");
  return ids.map(Number);
}
