import { type Command, InvalidArgumentError, Option } from "commander";
import { LATENCY_HEADER, latencyRows, percentiles } from "../../bench/latency.js";
import { type ResidentMemory, watchMemory } from "../../bench/resident-memory.js";
import { DISTINCT_REQUESTS, type LoadResult, askAlone, loadServer } from "../../bench/serve-load.js";
import { fits, wanted, whole } from "../../core/bounds.js";
import { InputError } from "../../core/errors.js";
import { ENGINE } from "../../infer/open-engine.js";
import type { StepPlan, StepResult } from "../../infer/step-plan.js";
import { QUANTISED_FORMS, type QuantisedForm } from "../../kernel/quantise.js";
import { IGNORE_MEMORY, RANKS, formatTable, megabytes, numberIn, percent, print } from "../options.js";
import { openTerminal } from "../terminal.js";

interface Flags {
  readonly url?: string;
  readonly clients: readonly number[];
  readonly duration: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly ranks?: number;
  readonly slots: number;
  readonly quantize?: QuantisedForm;
  readonly check?: boolean;
  readonly ignoreMemory?: boolean;
  readonly json?: boolean;
}

/** Figures of this process, where the server is in it. */
interface Inside {
  /** Of the time in which transfers were under way: compute did not wait. Undefined where there are none. */
  readonly hiddenShare?: number | undefined;
  readonly residentBytes: ResidentMemory;
}

type Measured = LoadResult & Partial<Inside>;

const CLIENTS = whole(1, 10_000);
const TOKENS = whole(1, 2 ** 24);

/** `bench serve`: many clients at once of a server. */
export function addBenchServe(bench: Command): void {
  bench
    .command("serve")
    .description(
      "clients that stream completions: time to first token, between tokens, tokens/s, errors, memory",
    )
    .argument("[dir]", "run, checkpoint or published folder: it is served by this process")
    .option("--url <address>", "of a server that runs already, instead; its key is SCMOE_API_KEY")
    .option("--clients <list>", "at once, each number measured", clientCounts, [8])
    .option("--duration <s>", "in which clients ask", numberIn(whole(1, 1e6)), 20)
    .option("--prompt-tokens <n>", "of each request", numberIn(TOKENS), 64)
    .option("--new-tokens <n>", "of each request", numberIn(TOKENS), 32)
    .option("--ranks <n>", "experts are spread over so many threads", RANKS)
    .option("--slots <n>", "sequences that a rank runs at once", numberIn(whole(1, 4_096)), ENGINE.slots)
    .addOption(new Option("--quantize <form>", "of the weights of matrix products").choices(QUANTISED_FORMS))
    .option("--check", "each stream must be what the same request gives alone")
    .option(...IGNORE_MEMORY)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe bench serve runs/first --clients 8,200 --duration 60 --check
  scmoe bench serve runs/first --ranks 2 --quantize int8
  scmoe bench serve --url http://127.0.0.1:8000 --clients 32 --json`,
    )
    .action(async (dir: string | undefined, flags: Flags) => {
      if ((dir === undefined) === (flags.url === undefined))
        throw new InputError(
          `bench serve wants a model or the --url of a server; found ${dir === undefined ? "neither" : "both"}`,
        );
      const results = dir === undefined ? await loadUrl(flags) : await loadModel(dir, flags);
      if (results === undefined) return;
      print(flags, results.map(figures), results.map(describe).join("\n\n"));
      if (results.some(({ unlike = 0 }) => unlike > 0)) process.exitCode = 1;
    });
}

async function loadUrl(flags: Flags): Promise<Measured[]> {
  const { url = "" } = flags;
  if (!URL.canParse(url))
    throw new InputError(`--url is "${url}"; wanted an address like http://127.0.0.1:8000`);
  return measure(url.replace(/\/+$/, ""), flags, (load) => load());
}

async function loadModel(model: string, flags: Flags): Promise<Measured[] | undefined> {
  const { ranks, slots, quantize, ignoreMemory } = flags;
  const terminal = openTerminal();
  const { onEvent } = terminal;
  const meter = new TransferMeter();
  const onStep = (plan: StepPlan, result: StepResult): void => meter.add(plan, result);
  try {
    const { startServing } = await import("../../api/serving.js");
    const serving = await startServing({
      model,
      port: 0,
      ranks,
      slots,
      quantize,
      ignoreMemory,
      onEvent,
      onStep,
    });
    if (serving === undefined) return undefined;
    try {
      const measured = measure(serving.address, flags, (load) => metered(load, flags.duration, meter));
      return await Promise.race([measured, serving.lost]);
    } finally {
      await serving.drain(1_000);
    }
  } finally {
    terminal.close();
  }
}

type Load = () => Promise<LoadResult>;

async function measure(
  address: string,
  { clients, duration, check, promptTokens, newTokens }: Flags,
  run: (load: Load) => Promise<Measured>,
): Promise<Measured[]> {
  const options = { address, key: process.env.SCMOE_API_KEY, promptTokens, newTokens };
  const alone = check ? await askAlone(options) : undefined;
  const results: Measured[] = [];
  for (const count of clients)
    results.push(
      await run(() => loadServer({ ...options, clients: count, durationMs: duration * 1e3, alone })),
    );
  return results;
}

class TransferMeter {
  exposedMs = 0;
  communicationMs = 0;

  add({ ranks }: StepPlan, { times }: StepResult): void {
    // To itself a rank sends nothing.
    if (ranks.length === 1) return;
    this.exposedMs += times.exposedMs;
    this.communicationMs += times.communicationMs;
  }
}

async function metered(load: Load, seconds: number, meter: TransferMeter): Promise<Measured> {
  meter.exposedMs = meter.communicationMs = 0;
  const { result, memory } = await watchMemory(seconds * 1e3, load);
  const { exposedMs, communicationMs } = meter;
  const hiddenShare = communicationMs === 0 ? undefined : Math.max(0, 1 - exposedMs / communicationMs);
  return { ...result, hiddenShare, residentBytes: memory };
}

export function clientCounts(text: string): number[] {
  const counts = text.split(",").map((part) => (/^\d+$/.test(part) ? Number(part) : NaN));
  if (!counts.every((count) => fits(count, CLIENTS)))
    throw new InvalidArgumentError(`wanted ${wanted(CLIENTS)}, or several with commas between.`);
  return counts;
}

/** Percentiles instead of samples. */
function figures({ firstTokenMs, interTokenMs, ...rest }: Measured): object {
  return { ...rest, firstTokenMs: percentiles(firstTokenMs), interTokenMs: percentiles(interTokenMs) };
}

function describe(result: Measured): string {
  const { clients, seconds, requests, tokensPerSecond, refused, errors, unlike, hiddenShare, residentBytes } =
    result;
  const failed = Object.entries(errors).map(([what, count]) => `${count} × ${what}`);
  const lines = [
    `${clients} clients, ${seconds.toFixed(1)} s: ${requests} requests, ${tokensPerSecond.toFixed(0)} tokens/s; ${refused} refused (429); errors: ${failed.join(", ") || "none"}`,
    formatTable(
      LATENCY_HEADER,
      latencyRows({ "first token": result.firstTokenMs, "between tokens": result.interTokenMs }),
    ),
  ];
  if (unlike !== undefined)
    lines.push(
      `streams unlike the same request alone: ${unlike} of ${requests} (${DISTINCT_REQUESTS} distinct requests)`,
    );
  if (hiddenShare !== undefined) lines.push(`communication hidden: ${percent(hiddenShare)}`);
  if (residentBytes !== undefined) {
    const { start, early, late, most } = residentBytes;
    const grown = `${late < early ? "−" : "+"}${Math.abs((late / early - 1) * 100).toFixed(1)} %`;
    lines.push(
      `resident memory, clients included: ${megabytes(start)} at the start, then ${megabytes(early)}, in the end ${megabytes(late)} (${grown}), ${megabytes(most)} at most`,
    );
  }
  return lines.join("\n");
}
