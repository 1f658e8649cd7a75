import { type Command, InvalidArgumentError } from "commander";
import { type DecodeResult, type DecodeRow, benchDecode } from "../../bench/decode.js";
import { BOUNDS, fits, wanted } from "../../core/bounds.js";
import { InputError } from "../../core/errors.js";
import { ENGINE } from "../../infer/open-engine.js";
import { FORM_BITS, type WeightForm } from "../../kernel/quantise.js";
import { openModel } from "../../run/open-model.js";
import { randomWeights } from "../../run/random-weights.js";
import { modelOf, readRunConfig } from "../../train/config.js";
import { type Column, collect, columnTable, numberIn, percent, print } from "../options.js";

interface Flags {
  readonly preset?: string;
  readonly set: readonly string[];
  readonly quantize: WeightForm;
  readonly batch: readonly number[];
  readonly prompt: number;
  readonly chunk: number;
  readonly tokens: number;
  readonly rounds: number;
  readonly json?: boolean;
}

const DEFAULT_PRESET = "base";

/** `bench decode`: prefill and decode beside the rate at which memory is read. */
export function addBenchDecode(bench: Command): void {
  bench
    .command("decode")
    .description(
      "prefill and decode on one thread: tokens/s, time outside kernels, share of the memory's rate",
    )
    .argument("[dir]", "run, checkpoint or published folder, instead of random weights")
    .option("--preset <name>", `random weights of this size (default: ${DEFAULT_PRESET})`)
    .option("--set <model.key=value>", "change a key of the preset's model", collect, [])
    .option("--quantize <form>", "weights of matrix products in f32, int8 or int4", weightForm, ENGINE.form)
    .option("--batch <list>", "sequences at once, each number measured", batchSizes, [1, 8])
    .option("--prompt <n>", "tokens of each prompt", numberIn(BOUNDS.sequence), 128)
    .option(
      "--chunk <n>",
      "tokens of a prompt that are read in a step",
      numberIn(BOUNDS.sequence),
      ENGINE.chunk,
    )
    .option("--tokens <n>", "new tokens of each sequence", numberIn(BOUNDS.sequence), 64)
    .option("--rounds <n>", "measured rounds of both", numberIn(BOUNDS.rounds), 5)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe bench decode runs/first --quantize int4
  scmoe bench decode --preset base --set model.arch=dense --set model.style=llama --set model.num_hidden_layers=12
  scmoe bench decode --batch 1,2,4,8,16 --prompt 512 --chunk 512 --json`,
    )
    .action((dir: string | undefined, flags: Flags) => {
      const { quantize: form, batch: batches, prompt, chunk, tokens, rounds } = flags;
      const model = dir === undefined ? randomModel(flags) : givenModel(dir, flags);
      try {
        const result = benchDecode({ model, form, batches, prompt, chunk, tokens, rounds });
        print(flags, result, describeDecode(result));
      } finally {
        model.close();
      }
    });
}

function givenModel(dir: string, { preset, set }: Flags) {
  if (preset !== undefined || set.length > 0)
    throw new InputError(
      `The model is that of ${dir}: leave out ${preset === undefined ? "--set" : "--preset"}`,
    );
  return openModel(dir);
}

function randomModel({ preset = DEFAULT_PRESET, set }: Flags) {
  const other = set.find((text) => !text.startsWith("model."));
  if (other !== undefined) throw new InputError(`--set takes model.KEY=VALUE here; found "${other}"`);
  const config = modelOf(readRunConfig(undefined, set, { model: { preset } }));
  return { config, source: randomWeights(config, 1), close: () => undefined };
}

export function weightForm(text: string): WeightForm {
  const forms = Object.keys(FORM_BITS);
  if (!forms.includes(text)) throw new InvalidArgumentError(`wanted ${forms.join(", ")}.`);
  return text as WeightForm;
}

export function batchSizes(text: string): number[] {
  const sizes = text.split(",").map(Number);
  if (!sizes.every((size) => fits(size, BOUNDS.batch)) || new Set(sizes).size < sizes.length)
    throw new InvalidArgumentError(`wanted ${wanted(BOUNDS.batch)}, or several with commas between.`);
  return sizes;
}

const fixed =
  (digits: number, value: (row: DecodeRow) => number) =>
  (row: DecodeRow): string =>
    value(row).toFixed(digits);

const COLUMNS: readonly Column<DecodeRow>[] = [
  { name: "batch", text: ({ batch }) => `${batch}` },
  { name: "prefill tok/s", text: fixed(0, (r) => r.prefillTokensPerSecond) },
  { name: "step ms", text: fixed(2, (r) => r.stepMs.median) },
  { name: "p10", text: fixed(2, (r) => r.stepMs.p10) },
  { name: "p90", text: fixed(2, (r) => r.stepMs.p90) },
  { name: "tok/s", text: fixed(0, (r) => r.tokensPerSecond) },
  { name: "sessions", text: fixed(0, (r) => r.sessionRuns) },
  { name: "inside ms", text: fixed(2, (r) => r.insideMs) },
  { name: "outside ms", text: fixed(2, (r) => r.outsideMs) },
  { name: "outside", text: (r) => `${(r.outsideShare * 100).toFixed(1)} %` },
  { name: "weights MB", text: fixed(1, (r) => r.weightBytes / 1e6) },
  { name: "cache MB", text: fixed(1, (r) => r.cacheBytes / 1e6) },
  { name: "GB/s inside", text: fixed(1, (r) => r.readRate) },
  { name: "plain read", text: fixed(1, (r) => r.roofRate) },
  { name: "share", text: (r) => percent(r.shareOfRoof) },
];

function describeDecode(result: DecodeResult): string {
  const { arch, parameters, form, prompt, chunk, tokens, rounds, rows } = result;
  const millions = (count: number): string => `${(count / 1e6).toFixed(1)} M`;
  return [
    `${arch}, ${millions(parameters.total)} parameters (${millions(parameters.active)} active), ${form}, one thread; prompts of ${prompt} tokens in chunks of ${chunk}, ${tokens} new ones, ${rounds} rounds`,
    columnTable(COLUMNS, rows),
    "per step: one token of every sequence; inside: within kernel sessions, head included; outside: all else, choice of tokens included; MB: read by a step",
  ].join("\n");
}
