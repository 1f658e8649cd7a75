/** Every number of every command has bounds; beyond them a command says what is wanted, in a line that names the flag. */
import type { Command, Option } from "commander";
import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { commandLine } from "./command-line.js";
import { batchSizes, weightForm } from "./commands/bench-decode.js";
import { clientCounts } from "./commands/bench-serve.js";
import { sharedExpert } from "./commands/convert.js";
import { tokenIds } from "./commands/generate.js";
import { byteSize, collect, encodingName } from "./options.js";

const program = (): Command => commandLine({ speaks: false });

/** What a command line ends with; none of them may get as far as doing anything. */
async function refusal(line: readonly string[]): Promise<string> {
  try {
    await program().parseAsync(line, { from: "user" });
  } catch (error) {
    const { message, code } = error as Error & { code?: string };
    expect(error instanceof InputError || code?.startsWith("commander."), message).toBe(true);
    return message;
  }
  throw new Error(`${line.join(" ")} was accepted`);
}

/** Needed before a command looks at its options. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  "bench serve": ["run"],
  eval: ["run"],
  export: ["run", "out"],
  generate: ["run"],
  launch: ["train"],
  serve: ["run"],
  "tokenizer train": ["-o", "tokenizer.json"],
};

/** Readers of options that are no numbers. */
const WORDS = new Set<unknown>([
  batchSizes,
  byteSize,
  clientCounts,
  collect,
  encodingName,
  sharedExpert,
  tokenIds,
  weightForm,
]);

function numericOptions(
  command: Command,
  path: readonly string[],
): { path: readonly string[]; option: Option }[] {
  const own = command.options
    .filter(({ parseArg, argChoices }) => parseArg && !argChoices && !WORDS.has(parseArg))
    .map((option) => ({ path, option }));
  return [...own, ...command.commands.flatMap((child) => numericOptions(child, [...path, child.name()]))];
}

const options = numericOptions(program(), []);

it("finds the numbers of all commands", () => {
  expect(options.length).toBeGreaterThan(45);
});

it.each(options.map(({ path, option }) => [`${path.join(" ")} ${option.long}`, path, option] as const))(
  "%s takes digits only",
  async (_, path, option) => {
    const words = ["", " 5 ", "NaN", "Infinity", "0x10", "-1", "5x", "1e400", "9007199254740993", "1,5"];
    for (const text of words) {
      const line = [...path, `${option.long}=${text}`, ...(ARGUMENTS[path.join(" ")] ?? [])];
      const message = await refusal(line);
      expect(message).toContain(`'${option.flags}'`);
      expect(message).toMatch(/wanted a (whole )?number [^\n]*\.$/);
      if (message.includes("whole"))
        for (const part of ["1e3", "1.5"])
          expect(await refusal(line.with(path.length, `${option.long}=${part}`))).toContain("whole number");
    }
  },
);

const BEYOND: readonly (readonly [string, RegExp])[] = [
  ["train --ranks 65", /'-n, --ranks <n>'.*from 1 to 64/],
  ["train --ranks 0", /from 1 to 64/],
  ["train --deadline 0", /'--deadline <seconds>'.*above 0, to 1000000/],
  ["train --link 0gbit", /10gbit,20us.*found "0gbit"/],
  ["train --link 1gbit,-1us", /10gbit,20us.*found "1gbit,-1us"/],
  ["train --set train.steps=1e300", /train\.steps: .*found 1e\+?300/],
  ["train --set train.batch_size=9007199254740992", /train\.batch_size: .*found 9007199254740992/],
  ["train --set train.seed=9007199254740993", /train\.seed/],
  ["train --set train.seed=-1", /train\.seed: .*>=0/],
  ["train --set train.betas=[0.9,1]", /train\.betas\.1: .*<1/],
  ["train --set train.learning_rate=1e300", /train\.learning_rate: .*<=1000000000/],
  ["train --set train.clip_norm=0", /train\.clip_norm: .*>0/],
  ["train --set train.eps=2", /train\.eps: .*<=1/],
  ["train --set model.hidden_size=1000000", /hidden_size: .*<=131072/],
  ["train --set model.num_experts=1e6", /num_experts: .*<=16384/],
  ["train --set model.capacity_factor=.inf", /capacity_factor/],
  ["train --set parallel.expert_parallel=0", /parallel\.expert_parallel: .*>0/],
  ["train --set schedule.policy=pipelined(0)", /n and K from 1/],
  ["train --set schedule.policy=adaptive(5000)", /from 1 to 4096/],
  ["eval run --batches 0", /'--batches <n>'/],
  ["bench decode --batch 1,0", /'--batch <list>'.*several with commas/],
  ["bench decode --quantize int2", /'--quantize <form>'.*int8/],
  ["generate run --tokens 0", /'--tokens <n>'.*from 1/],
  ["generate run --temperature 1e9", /'--temperature <t>'.*from 0 to 1000/],
  ["generate run --slots 0", /'--slots <n>'.*from 1/],
  ["generate run --logprobs 21", /'--logprobs <n>'.*from 0 to 20/],
  ["generate run --cache-memory 0MB", /'--cache-memory <size>'.*512MB or 1.5GiB/],
  ["generate run --cache-memory 5", /'--cache-memory <size>'.*512MB or 1.5GiB/],
  ["generate run --top-p 0", /'--top-p <p>'.*above 0, to 1/],
  ["generate run --top-p 1.5", /above 0, to 1/],
  ["generate run --min-p 2", /'--min-p <p>'.*from 0 to 1/],
  ["generate run --repetition-penalty 0", /'--repetition-penalty <x>'.*above 0, to 1000/],
  ["generate run --presence-penalty 2.1", /'--presence-penalty <x>'.*from 0 to 2/],
  ["data --vocab-size 256", /'--vocab-size <n>'.*from 257/],
  ["tokenizer train -o t.json --vocab-size 0", /from 257/],
  ["tokenizer decode run 1.5", /'ids'.*wanted a whole number/],
  ["launch --ranks-per-host 0 train", /'--ranks-per-host <n>'.*from 1/],
  ["launch --hosts a:99999999 train", /found "a:99999999"/],
  ["bench compare --rounds 0", /'--rounds <n>'.*from 1/],
  ["bench compare --batch 0", /'--batch <n>'.*from 1/],
  ["bench compare --communication-share 1", /'--communication-share <s>'.*above 0, below 1/],
  ["bench compare --communication-share 0", /above 0, below 1/],
  ["bench comm --bytes 0", /'--bytes <n>'.*from 4/],
  ["bench comm --overlap 0", /'--overlap <ms>'.*above 0/],
  ["bench block --heads 0", /'--heads <n>'/],
  ["bench block --batch 100000 --rounds 1", /more than 2 GiB: .* has no place; take a smaller batch/],
  ["bench step --pairs 0", /'--pairs <n>'/],
  ["plan --batch 0", /'--batch <n>'.*from 1/],
  ["plan --efficiency 5", /'--efficiency <x>'.*above 0, to 1/],
  ["plan --link-efficiency 0", /'--link-efficiency <x>'.*above 0, to 1/],
  ["plan --imbalance 0.5", /'--imbalance <x>'.*from 1/],
  ["plan --imbalance 9 --steps 1", /imbalance is 9; the busiest of 8 ranks/],
  ["plan --cluster 0x8xH100-IB", /Unknown cluster "0x8xH100-IB"/],
  ["plan --search --imbalance 2", /--search does not go with --imbalance/],
  ["plan --search --top 0", /'--top <n>'.*from 1/],
  ["plan --top 3", /--top is of --search/],
  ["plan --steps 0", /'--steps <n>'.*from 1/],
  ["plan --ep 3", /size 3 does not divide the 8 devices/],
  ["plan --ep 16 --cluster 2x8xA800 --preset gpt2-moe-small", /size 16 does not divide the 8 experts/],
  ["start --share 1", /'--share <s>'.*above 0, below 1/],
  ["start --steps 0", /'--steps <n>'.*from 1/],
];

describe("beyond the bounds", () => {
  it.each(BEYOND)("%s", async (line, message) => {
    const found = await refusal(line.split(" "));
    expect(found).toMatch(message);
    expect(found).not.toContain("\n");
  });
});
