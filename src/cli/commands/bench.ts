import { writeFileSync, mkdirSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import type { CompareMode, CompareOptions, CompareResult } from "../../bench/compare.js";
import { launcherSize } from "../../comm/mpi/library.js";
import { formatLink, parseLink } from "../../comm/link.js";
import { InputError } from "../../core/errors.js";
import { launch } from "../../launch/launch.js";
import { resolveModel } from "../../model/config.js";
import { calibrate } from "../../plan/calibration.js";
import { parsePolicy } from "../../schedule/policy.js";
import { replaceFile } from "../../storage/files.js";
import { chromeTrace } from "../../view/chrome-trace.js";
import { speedChart } from "../../view/speed-chart.js";
import { timelineHtml } from "../../view/timeline-html.js";
import { formatTable, markdownTable, positiveNumber, printJson, wholeNumber } from "../options.js";
import { addBenchComm } from "./bench-comm.js";
import { addBenchBlock, addBenchStep } from "./bench-kernels.js";

interface Flags {
  readonly ranks?: number;
  readonly link?: string;
  readonly communicationShare?: number;
  readonly archs: string;
  readonly modes: string;
  readonly width: number;
  readonly pairs: number;
  readonly experts: number;
  readonly vocab: number;
  readonly sequence: number;
  readonly batch: number;
  readonly rounds: number;
  readonly ep?: number;
  readonly wire: "f32" | "bf16";
  readonly splitWeightGradients?: boolean;
  readonly unbalanced?: boolean;
  readonly out?: string;
  readonly json?: boolean;
  readonly markdown?: boolean;
  readonly calibration?: string;
}

const DEFAULT_CASES =
  "top2:sequential top2:pipelined(2) shared:sequential scmoe-pos1:adaptive scmoe-pos2:adaptive scmoe-pos3:adaptive";

export function addBench(program: Command): void {
  const bench = program.command("bench").description("measure");
  addBenchBlock(bench);
  addBenchStep(bench);
  addBenchComm(bench);
  bench
    .command("compare")
    .description(
      "architectures × policies in one table: speed-up, exposed communication, predicted against measured",
    )
    .option("-n, --ranks <n>", "ranks, as threads, default 2 (under mpirun: MPI's)", wholeNumber)
    .option("--link <rate,latency>", "link model, e.g. 1gbit,50us (threads)")
    .option(
      "--communication-share <s>",
      "choose the link so that communication takes this share of sequential top-2 forward",
      positiveNumber,
    )
    .option("--archs <list>", "architecture:policy, separated by spaces", DEFAULT_CASES)
    .option("--modes <list>", "forward, train, train+reduce", "forward,train")
    .option("--width <d>", "hidden size D; MLPs are 4·D", wholeNumber, 512)
    .option("--pairs <n>", "pairs of a dense and an MoE block", wholeNumber, 3)
    .option("--experts <n>", "routed experts", wholeNumber, 8)
    .option("--vocab <n>", "vocabulary", wholeNumber, 1024)
    .option("--sequence <n>", "tokens per sequence", wholeNumber, 256)
    .option("--batch <n>", "sequences per rank", wholeNumber, 4)
    .option("--rounds <n>", "measured rounds", wholeNumber, 7)
    .option("--ep <n>", "ranks that share one copy of the experts (default: all)", wholeNumber)
    .option("--wire <type>", "type of rows on the network: f32 or bf16", "f32")
    .option("--split-weight-gradients", "weight gradients as operators of their own, to fill gaps")
    .option(
      "--unbalanced",
      "leave the fresh gates as they are; by default they are evened out first, as training would",
    )
    .option("-o, --out <dir>", "write timeline.html, timeline.json and chart.svg there")
    .option("--calibration <file>", "write the measured rates there, for plan --calibration")
    .option("--json", "print the result as JSON")
    .option("--markdown", "print the table as Markdown")
    .action(async (flags: Flags) => {
      const options = compareOptions(flags);
      const link = flags.link === undefined ? undefined : parseLink(flags.link);
      const { result } = await launch<CompareResult>(
        { job: "compare", options },
        { ranks: flags.ranks ?? (launcherSize() === undefined ? 2 : undefined), link },
      );
      if (result === undefined) return;
      if (flags.out !== undefined) writeOutputs(flags.out, result);
      if (flags.calibration !== undefined) writeCalibration(flags.calibration, result, options);
      if (flags.json) return printJson({ ...result, timelines: undefined });
      process.stdout.write(`${comparisonTable(result, flags.markdown ?? false)}\n`);
      if (flags.out !== undefined)
        process.stdout.write(`${join(flags.out, "timeline.html")} shows the steps\n`);
    });
}

function compareOptions(flags: Flags): CompareOptions {
  const cases = flags.archs
    .split(/\s+/)
    .filter((text) => text !== "")
    .map((text) => {
      const [arch, policy = "sequential"] = text.split(":");
      return { arch, policy: parsePolicy(policy).name };
    });
  const modes = flags.modes.split(",").map((mode): CompareMode => {
    if (mode === "forward" || mode === "train" || mode === "train+reduce") return mode;
    throw new InputError(`--modes takes forward, train, train+reduce; found "${mode}"`);
  });
  if (flags.wire !== "f32" && flags.wire !== "bf16")
    throw new InputError(`--wire is f32 or bf16; found "${flags.wire as string}"`);
  if (flags.communicationShare !== undefined && flags.communicationShare >= 1)
    throw new InputError(`--communication-share is a share below 1; found ${flags.communicationShare}`);
  const model = {
    vocab_size: flags.vocab,
    hidden_size: flags.width,
    intermediate_size: 4 * flags.width,
    num_attention_heads: Math.max(1, flags.width / 64),
    num_hidden_layers: 2 * flags.pairs,
    num_experts: flags.experts,
    max_position_embeddings: flags.sequence,
  };
  for (const { arch } of cases) resolveModel({ ...model, arch }, "--archs");
  return {
    model,
    cases,
    modes,
    epSize: flags.ep,
    batch: flags.batch,
    sequence: flags.sequence,
    rounds: Math.max(1, flags.rounds),
    splitWeightGradients: flags.splitWeightGradients ?? false,
    wire: flags.wire,
    balanced: !flags.unbalanced,
    communicationShare: flags.communicationShare,
    shareMode: "forward",
    latencyMs: 0.02,
  };
}

function writeCalibration(path: string, result: CompareResult, options: CompareOptions): void {
  const { model, batch, sequence } = options;
  const measured = { model, batch, sequence, epSize: options.epSize ?? result.ranks, elementBytes: 4 };
  const source = `${cpus()[0]?.model ?? "unknown processor"}, ${result.ranks} ranks, D = ${model.hidden_size}, f32`;
  const found = calibrate(result.rows, measured, { source, ranks: result.ranks });
  replaceFile(path, `${JSON.stringify(found, undefined, 2)}\n`);
}

export function writeOutputs(directory: string, result: CompareResult): void {
  mkdirSync(directory, { recursive: true });
  const titled = result.timelines.map((pair, i) => {
    const { arch, policy, mode } = result.rows[i];
    return { title: `${arch} ${policy} ${mode}`, ...pair };
  });
  writeFileSync(join(directory, "timeline.html"), timelineHtml(titled));
  writeFileSync(join(directory, "timeline.json"), JSON.stringify(chromeTrace(titled)));
  writeFileSync(join(directory, "chart.svg"), speedChart(result.rows));
}

export function comparisonTable(result: CompareResult, markdown: boolean): string {
  const baseline = (mode: string, policy: RegExp): number | undefined =>
    result.rows.find((row) => row.arch === "top2" && row.mode === mode && policy.test(row.policy))?.stepMs;
  const ratio = (over: number | undefined, ms: number): string =>
    over === undefined ? "–" : `${(over / ms).toFixed(2)} ×`;
  const rows = result.rows.map((row) => [
    row.mode,
    row.arch,
    row.policy,
    `${row.stepMs.toFixed(1)}`,
    `${row.spreadMs.toFixed(1)}`,
    ratio(baseline(row.mode, /^sequential/), row.stepMs),
    ratio(baseline(row.mode, /^pipelined/), row.stepMs),
    `${row.computeMs.toFixed(1)}`,
    `${row.communicationMs.toFixed(1)}`,
    `${row.exposedMs.toFixed(1)}`,
    `${(row.overlapShare * 100).toFixed(0)} %`,
    `${row.predictedMs.toFixed(1)}`,
    `${row.lowerBoundMs.toFixed(1)}`,
  ]);
  const header = [
    "mode",
    "arch",
    "policy",
    "step ms",
    "±",
    "vs sequential",
    "vs pipelined",
    "compute",
    "communication",
    "exposed",
    "hidden",
    "predicted",
    "bound",
  ];
  const table = (markdown ? markdownTable : formatTable)(header, rows);
  const notes = result.rows
    .filter((row) => row.policy.startsWith("adaptive"))
    .map((row) => `${row.mode} ${row.arch}: ${row.note}`);
  const warnings = result.rows.flatMap(({ mode, arch, policy, warning }) =>
    warning === undefined ? [] : [`${mode} ${arch} ${policy}: ${warning}`],
  );
  const link = result.link === null ? [] : [`link: ${formatLink(result.link)}`];
  return [table, "", ...link, ...notes, ...warnings].join("\n");
}
