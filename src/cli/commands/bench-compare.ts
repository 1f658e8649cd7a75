import { cpus } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { type CompareOptions, compare } from "../../api/compare.js";
import type { CompareCase, CompareResult } from "../../bench/compare.js";
import { COMPARE_MODES, type CompareMode } from "../../bench/contestants.js";
import { launcherSize } from "../../comm/mpi/library.js";
import { BOUNDS } from "../../core/bounds.js";
import { InputError } from "../../core/errors.js";
import { ARCHITECTURE_NAMES } from "../../model/architectures.js";
import { calibrate } from "../../simulate/calibration.js";
import { parsePolicy } from "../../schedule/policy.js";
import { replaceFile } from "../../storage/files.js";
import { comparisonNotes, comparisonTable, writeComparison } from "../comparison.js";
import { RANKS, numberIn, printJson } from "../options.js";
import { type SizeFlags, addSizes, sizedModel } from "../sizes.js";
import { SPEAKS, openTerminal } from "../terminal.js";

interface Flags extends SizeFlags {
  readonly ranks?: number;
  readonly link?: string;
  readonly communicationShare?: number;
  readonly shareOf: string;
  readonly archs: string;
  readonly policies: string;
  readonly modes: string;
  readonly rounds: number;
  readonly ep?: number;
  readonly wire: string;
  readonly wireGradients: string;
  readonly microBatches: number;
  readonly splitWeightGradients?: boolean;
  readonly unbalanced?: boolean;
  readonly out?: string;
  readonly json?: boolean;
  readonly markdown?: boolean;
  readonly calibration?: string;
}

const DEFAULT_CASES =
  "top2:sequential top2:pipelined(2) shared:sequential scmoe-pos1:adaptive scmoe-pos2:adaptive scmoe-pos3:adaptive farskip:adaptive";

/** `bench compare`: architectures × policies, train and forward, in one table. */
export function addBenchCompare(bench: Command): void {
  addSizes(bench.command("compare"), { pairs: 3, vocab: 1024 })
    .description(
      "architectures × policies in one table: speed-up, exposed communication, predicted against measured",
    )
    .option("-n, --ranks <n>", "ranks, as threads, default 2 (under mpirun: MPI's)", RANKS)
    .option("--link <rate,latency>", "link model, e.g. 1gbit,50us (threads)")
    .option(
      "--communication-share <s>",
      "choose the link so that communication takes this share of sequential top-2",
      numberIn(BOUNDS.properShare),
    )
    .option("--share-of <mode>", `of its step in this mode: ${COMPARE_MODES.join(", ")}`, "forward")
    .option(
      "--archs <list>",
      'architecture:policy, or architectures alone to be run under each of --policies; "all" is every one',
      DEFAULT_CASES,
    )
    .option("--policies <list>", "for architectures without one", "sequential adaptive")
    .option("--modes <list>", COMPARE_MODES.join(", "), "forward,train")
    .option("--rounds <n>", "measured rounds", numberIn(BOUNDS.rounds), 7)
    .option("--ep <n>", "ranks that share one copy of the experts (default: all)", numberIn(BOUNDS.epSize))
    .option("--wire <type>", "type of rows on the network: f32 or bf16", "f32")
    .option("--micro-batches <n>", "of a whole step (mode step)", numberIn(BOUNDS.batch), 1)
    .option("--wire-gradients <type>", "type of gradients on the network: f32 or bf16", "f32")
    .option("--split-weight-gradients", "weight gradients as operators of their own, to fill gaps")
    .option(
      "--unbalanced",
      "leave the fresh gates as they are; by default they are evened out first, as training would",
    )
    .option("-o, --out <dir>", "write timeline.html, timeline.json and chart.svg there")
    .option("--calibration <file>", "write the measured rates there, for plan --calibration")
    .option("--json", "print the result as JSON")
    .option("--markdown", "print the table as Markdown")
    .addHelpText(
      "after",
      `
Examples:
  scmoe bench compare --communication-share 0.6 --out out
  scmoe bench compare --archs "top2 shared scmoe-pos2" --policies "sequential adaptive" --modes train,step --micro-batches 4
  scmoe bench compare --archs all --link 1gbit,50us --json
  mpirun -n 2 --bind-to none npx scmoe bench compare --markdown`,
    )
    .action(async (flags: Flags) => {
      const options = compareOptions(flags);
      const terminal = openTerminal();
      const { onEvent } = terminal;
      const ranks = flags.ranks ?? (launcherSize() === undefined ? 2 : undefined);
      const result = await compare({ ...options, ranks, link: flags.link, onEvent }).finally(terminal.close);
      if (SPEAKS) report(result, options, flags);
    });
}

function report(result: CompareResult, options: Measured, flags: Flags): void {
  if (flags.out !== undefined) writeComparison(flags.out, result);
  if (flags.calibration !== undefined) writeCalibration(flags.calibration, result, options);
  if (flags.json) {
    const { timelines: _pictures, ...figures } = result;
    return printJson({ ...figures, options });
  }
  const notes = comparisonNotes(result);
  if (flags.out !== undefined) notes.push(`${join(flags.out, "timeline.html")} shows the steps`);
  const lines = flags.markdown ? notes.map((note) => `- ${note}`) : notes;
  process.stdout.write(`${comparisonTable(result, flags.markdown ?? false)}\n\n${lines.join("\n")}\n`);
}

type Measured = ReturnType<typeof compareOptions>;

function compareOptions(flags: Flags) {
  return {
    model: sizedModel(flags),
    cases: parseCases(flags.archs, words(flags.policies)),
    modes: [...new Set(words(flags.modes).map((mode) => parseMode("--modes", mode)))],
    epSize: flags.ep,
    batch: flags.batch,
    sequence: flags.sequence,
    rounds: flags.rounds,
    splitWeightGradients: flags.splitWeightGradients ?? false,
    microBatches: flags.microBatches,
    wire: parseWire("--wire", flags.wire),
    wireGradients: parseWire("--wire-gradients", flags.wireGradients),
    balanced: !flags.unbalanced,
    communicationShare: flags.communicationShare,
    shareMode: parseMode("--share-of", flags.shareOf),
  } satisfies CompareOptions;
}

function parseWire(option: string, text: string): "f32" | "bf16" {
  if (text !== "f32" && text !== "bf16") throw new InputError(`${option} is f32 or bf16; found "${text}"`);
  return text;
}

function words(list: string): string[] {
  return list.split(/[\s,]+/).filter((word) => word !== "");
}

function parseMode(option: string, text: string): CompareMode {
  const mode = COMPARE_MODES.find((known) => known === text);
  if (mode === undefined)
    throw new InputError(`${option} takes ${COMPARE_MODES.join(", ")}; found "${text}"`);
  return mode;
}

/** "top2:sequential", or "top2" under each of the policies, or "all". @throws InputError on unknown ones */
export function parseCases(archs: string, policies: readonly string[]): CompareCase[] {
  const cases = words(archs).flatMap((word) => {
    const [name, policy] = word.split(":");
    const names: readonly string[] = name === "all" ? ARCHITECTURE_NAMES : [name];
    return names.flatMap((arch) =>
      (policy === undefined ? policies : [policy]).map((p) => ({ arch, policy: p })),
    );
  });
  if (cases.length === 0) throw new InputError("--archs names nothing to compare");
  for (const { policy } of cases) parsePolicy(policy);
  return cases.filter(
    (one, i) => cases.findIndex((other) => other.arch === one.arch && other.policy === one.policy) === i,
  );
}

/** Rows of whole rows: chunks have rates of their own. */
function writeCalibration(path: string, result: CompareResult, { model }: Measured): void {
  const source = `${cpus()[0]?.model ?? "unknown processor"}, ${result.ranks} ranks, D = ${model.hidden_size}, f32`;
  const whole = result.rows.filter(({ policy }) => parsePolicy(policy).chunks === 1);
  const found = calibrate(
    whole.flatMap(({ costs }) => costs),
    { source, ranks: result.ranks },
  );
  replaceFile(path, `${JSON.stringify(found, undefined, 2)}\n`);
}
