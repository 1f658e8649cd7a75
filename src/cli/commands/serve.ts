import { type Command, Option } from "commander";
import type { OpenServedEngine } from "../../api/serving.js";
import { BOUNDS, whole } from "../../core/bounds.js";
import { ENGINE } from "../../infer/open-engine.js";
import { QUANTISED_FORMS, type QuantisedForm } from "../../kernel/quantise.js";
import { DEFAULT_ADDRESS } from "../../serve/keys.js";
import { LIMITS, LIMIT_BOUNDS } from "../../serve/limits.js";
import { IGNORE_MEMORY, RANKS, collect, numberIn } from "../options.js";
import { openTerminal } from "../terminal.js";

interface Flags {
  readonly host: string;
  readonly port: number;
  readonly ranks?: number;
  readonly link?: string;
  readonly policy: string;
  readonly slots: number;
  readonly context?: number;
  readonly cache?: number;
  readonly quantize?: QuantisedForm;
  readonly ignoreMemory?: boolean;
  readonly name?: string;
  readonly apiKey: string[];
  readonly maxQueue: number;
  readonly maxBody: number;
  readonly timeout: number;
  readonly drain: number;
  readonly log: string;
}

const MIB = 2 ** 20;
const seconds = numberIn(whole(1, 2_000_000));
const LEVELS = ["info", "error", "silent"];

/** @param open what computes; default: the model */
export function addServe(program: Command, open?: OpenServedEngine): void {
  program
    .command("serve")
    .description("answer requests in OpenAI's wire format")
    .argument("<dir>", "run directory, checkpoint or published folder")
    .option(
      "--host <address>",
      "where to listen; any but this machine's own wants an API key",
      DEFAULT_ADDRESS.host,
    )
    .option("--port <n>", "0: any that is free", numberIn(whole(0, 65_535)), DEFAULT_ADDRESS.port)
    .option("--ranks <n>", "experts are spread over so many threads", RANKS)
    .option("--link <rate,latency>", "delay messages as a link would, e.g. 10gbit,20us (threads)")
    .option("--policy <name>", "how transfers between ranks are hidden", ENGINE.policy)
    .option("--slots <n>", "sequences that a rank runs at once", numberIn(whole(1, 4_096)), ENGINE.slots)
    .option("--context <n>", "tokens of a sequence at most; default: the model's", numberIn(BOUNDS.positions))
    .option(
      "--cache <MiB>",
      "of keys and values, on each rank; default: all slots full",
      numberIn(whole(1, 2 ** 24)),
    )
    .addOption(new Option("--quantize <form>", "of the weights of matrix products").choices(QUANTISED_FORMS))
    .option(...IGNORE_MEMORY)
    .option("--name <text>", "the model's name in requests; default: the directory's")
    .option(
      "--api-key <key>",
      "asked of every request; may be given several times. Others see it in the list of processes: SCMOE_API_KEY (several: with commas) keeps it secret",
      collect,
      [],
    )
    .option(
      "--max-queue <n>",
      "sequences that may wait; beyond, 429",
      numberIn(LIMIT_BOUNDS.maxQueue),
      LIMITS.maxQueue,
    )
    .option("--max-body <MiB>", "size of a request", numberIn(whole(1, 256)), LIMITS.maxBodyBytes / MIB)
    .option("--timeout <s>", "for a whole request", seconds, LIMITS.requestTimeoutMs / 1e3)
    .option("--drain <s>", "for answers under way when it is asked to end (SIGTERM, Ctrl-C)", seconds, 30)
    .addOption(new Option("--log <level>", "lines of JSON on stdout").choices(LEVELS).default(LEVELS[0]))
    .addHelpText(
      "after",
      `
Examples:
  scmoe serve runs/first
  scmoe serve models/mixtral --ranks 2 --port 9000
  SCMOE_API_KEY=… scmoe serve runs/first --host 0.0.0.0
  curl -s localhost:8000/v1/completions -H 'Content-Type: application/json' -d '{"prompt": "My fellow citizens"}'`,
    )
    .action(async (model: string, flags: Flags) => {
      const terminal = openTerminal({ stops: true, stopping: "letting answers end" });
      try {
        const { host, port, ranks, name, log } = flags;
        // Other commands need no memory for a server's modules.
        const [{ startServing }, { pino }] = await Promise.all([
          import("../../api/serving.js"),
          import("pino"),
        ]);
        const serving = await startServing(
          {
            model,
            host,
            port,
            ranks,
            link: flags.link,
            policy: flags.policy,
            name,
            slots: flags.slots,
            contextLength: flags.context,
            cacheBytes: flags.cache === undefined ? undefined : flags.cache * MIB,
            quantize: flags.quantize,
            ignoreMemory: flags.ignoreMemory,
            onEvent: terminal.onEvent,
            keys: [...flags.apiKey, ...keysOf(process.env.SCMOE_API_KEY)],
            limits: {
              maxQueue: flags.maxQueue,
              maxSequences: Math.min(LIMITS.maxSequences, flags.maxQueue),
              maxBodyBytes: flags.maxBody * MIB,
              requestTimeoutMs: flags.timeout * 1e3,
            },
            log: pino({ level: log }, pino.destination({ dest: 1, sync: true })),
          },
          open,
        );
        if (serving === undefined) return;
        terminal.say(`Serving ${serving.name} at ${serving.address}; Ctrl-C lets answers end`);
        try {
          await Promise.race([aborted(terminal.signal), serving.lost]);
        } finally {
          await serving.drain(flags.drain * 1e3);
        }
      } finally {
        terminal.close();
      }
    });
}

/** Several are parted by commas. */
function keysOf(text: string | undefined): string[] {
  return (text ?? "").split(",").filter((key) => key !== "");
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
