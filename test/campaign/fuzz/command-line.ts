/** The command line, in this process: every command, with words that are almost right. What would measure or train does nothing. */
import { type Command, CommanderError } from "commander";
import { commandLine } from "../../../src/cli/command-line.js";
import { exitCodeOf } from "../../../src/core/errors.js";
import type { Dice } from "./dice.js";
import { wrongLine } from "./judge.js";
import { YAML_SCRAPS, changeText, changeTree, jsonText, number, string } from "./mutate.js";
import * as seeds from "./seeds.js";
import type { Place, Target } from "./target.js";

const FILE = "<file>";
const MISSING = "<missing>";
const NUMBER = "<number>";

/** Words of each command, options with their values; what is dangerous to change is put in afterwards. */
const COMMANDS: readonly {
  readonly words: string;
  readonly options: readonly string[];
  readonly fixed?: string;
}[] = [
  {
    words: "train",
    fixed: "--dry-run",
    options: [
      `-c ${FILE}`,
      "--set train.steps=3",
      "--set model.arch=top2",
      `--resume ${MISSING}`,
      `-n ${NUMBER}`,
      "--link 1gbit,50us",
      `--deadline ${NUMBER}`,
      "--timeline",
      "--json",
      "-q",
    ],
  },
  {
    words: `eval ${MISSING}`,
    options: [`--batches ${NUMBER}`, `--sequence ${NUMBER}`, `-n ${NUMBER}`, "--json"],
  },
  {
    words: `generate ${MISSING}`,
    options: [
      "-p x",
      `--tokens ${NUMBER}`,
      `--temperature ${NUMBER}`,
      `--top-k ${NUMBER}`,
      `--top-p ${NUMBER}`,
      `--seed ${NUMBER}`,
    ],
  },
  { words: `tokenizer encode ${FILE} text`, options: ["--json"] },
  { words: `tokenizer decode ${FILE} ${NUMBER} 1 2`, options: ["--json"] },
  { words: `verify ${MISSING}`, options: ["--json"] },
  {
    words: "launch",
    options: ["--hosts a:2,b", `--ranks-per-host ${NUMBER}`, "--slurm", "-- train --out x"],
  },
  {
    words: "plan --preset tiny --archs top2:sequential",
    options: [
      `--cluster ${FILE}`,
      "--cluster 8xA30-PCIe",
      `--calibration ${FILE}`,
      "--preset small",
      "--archs scmoe-pos2:adaptive",
      "--mode forward",
      `--sequence ${NUMBER}`,
      `--imbalance ${NUMBER}`,
      "--json",
      "--markdown",
    ],
  },
  { words: "bench block", options: [`--width ${NUMBER}`, `--heads ${NUMBER}`, "--style llama", "--json"] },
  { words: "bench step", options: [`--pairs ${NUMBER}`, "--arch top2"] },
  {
    words: "bench comm",
    options: [`-n ${NUMBER}`, `--bytes ${NUMBER}`, `--overlap ${NUMBER}`, "--link 1gbit"],
  },
  {
    words: "bench compare",
    options: [`--communication-share ${NUMBER}`, "--archs all", "--modes train", `--ep ${NUMBER}`],
  },
  { words: "start", options: [`--steps ${NUMBER}`, `--share ${NUMBER}`, "--json"] },
  { words: "data", options: [`--vocab-size ${NUMBER}`, "--json"] },
  { words: "tokenizer train", options: [`--vocab-size ${NUMBER}`, `-o ${MISSING}`] },
  { words: "doctor", options: ["--json"] },
  { words: "help", options: ["train", "plan", "bench"] },
  { words: "--version", options: [] },
];

/** Options that write, or start other programs. */
const WRITES = /^(-o|--o|--ru|--cal|--ca)/;
/** Their actions measure, train or write for longer than a case may last: only their words are read here. */
const IDLE = new Set(["block", "step", "comm", "compare", "start", "data", "doctor"]);

function wordsOf(dice: Dice, place: Place): string[] {
  const { words, options, fixed } = dice.pick(COMMANDS);
  const chosen = options.filter(() => dice.chance(0.3));
  const all = [...words.split(" "), ...chosen.flatMap((option) => option.split(" "))];
  for (let n = dice.below(3); n > 0 && all.length > 0; n--) {
    const at = dice.below(all.length);
    const kind = dice.below(6);
    if (kind === 0) all.splice(at, 1);
    else if (kind === 1) all.splice(at, 0, string(dice));
    else if (kind === 2)
      all.splice(at, 0, ...dice.pick(dice.pick(COMMANDS).options.concat("--help")).split(" "));
    else if (kind === 3) all[at] = changeText(dice, all[at]);
    else if (kind === 4) all[at] = string(dice);
    else all.splice(at, 0, all[at]);
  }
  const file = dice.pick(["x.yaml", "x.json", "tokenizer.json"]);
  const filled = all.map((word) => {
    if (word === NUMBER) return dice.chance(0.5) ? String(1 + dice.below(64)) : number(dice);
    // What a process is started with has no NUL in it.
    return word
      .replace(FILE, place.path(`cli/${file}`))
      .replace(MISSING, place.path("cli/missing"))
      .replaceAll("\0", "");
  });
  const tree = dice.pick<unknown>([
    seeds.RUN,
    seeds.CALIBRATION,
    { devices_per_node: 8, tflops: 312, memory_gb_per_s: 2039, intra_gb_per_s: 200 },
  ]);
  place.write(
    `cli/${file}`,
    file === "tokenizer.json"
      ? JSON.stringify(seeds.BPE_JSON)
      : file === "x.json"
        ? jsonText(dice, changeTree(dice, tree))
        : changeText(dice, dice.pick([seeds.RUN_YAML, seeds.CLUSTER_YAML]), YAML_SCRAPS),
  );
  const isLaunch = filled[0] === "launch";
  const safe = filled.filter((word) =>
    isLaunch ? !/^--?r/.test(word) || word === "--ranks-per-host" : !WRITES.test(word),
  );
  const place0 = safe.indexOf("train");
  if (fixed !== undefined || place0 === 0) safe.splice(place0 + 1, 0, "--dry-run");
  return safe;
}

function idle(command: Command): void {
  for (const child of command.commands) idle(child);
  const isTokenizer = command.name() === "train" && command.parent?.name() === "tokenizer";
  if (IDLE.has(command.name()) || isTokenizer) command.action(() => undefined);
}

/** Runs a command; what it prints is kept. */
async function runCommand(words: readonly string[]): Promise<void> {
  const program = commandLine({ speaks: true });
  idle(program);
  let told = "";
  const { stdout, stderr } = process;
  const [writeOut, writeErr] = [stdout, stderr].map((stream) => stream.write.bind(stream));
  stdout.write = () => true;
  stderr.write = (text: string | Uint8Array) => {
    told += typeof text === "string" ? text : "";
    return true;
  };
  try {
    await program.parseAsync([...words], { from: "user" });
  } catch (error) {
    // Commander has told its own line; help is as long as it is.
    if (!(error instanceof CommanderError)) {
      // Of the operating system: a path that it refuses. `scmoe` says its first line.
      if (exitCodeOf(error) === undefined || error instanceof Error === false) throw error;
      if ("syscall" in error) throw error;
      const wrong = wrongLine(error.message);
      if (wrong !== undefined) throw error;
    } else if (error.exitCode !== 0 && error.code !== "commander.help") {
      const wrong = /^scmoe: .*\n$/.test(told)
        ? wrongLine(told.trimEnd())
        : `several lines: ${told.slice(0, 300)}`;
      if (wrong !== undefined) throw new Error(`usage: ${wrong}`);
    }
  } finally {
    stdout.write = writeOut;
    stderr.write = writeErr;
    process.exitCode = undefined;
  }
}

export const COMMAND_LINE: Target = {
  name: "command line",
  weight: 40,
  make(dice, place) {
    const words = wordsOf(dice, place);
    return { input: words.join(" "), run: () => runCommand(words) };
  },
};
