import type { Command } from "commander";
import { architecture } from "../../model/architectures.js";
import { preset } from "../../model/presets.js";
import { modelInputAt } from "../../api/memory.js";
import { DEFAULT_CASES, type PlanRow, plan } from "../../api/plan.js";
import type { PlanOptions } from "../../api/plan-question.js";
import { searchLayouts } from "../../api/plan-search.js";
import { CLUSTERS } from "../../simulate/clusters.js";
import { BOUNDS } from "../../core/bounds.js";
import { InputError } from "../../core/errors.js";
import { findCluster, readCalibration } from "../plan-files.js";
import { layoutTable } from "../layout-table.js";
import { gigabytes, memoryLines } from "../plan-memory.js";
import { writePictures } from "../comparison.js";
import { type Column, columnTable, numberIn, percent, print, printJson } from "../options.js";

interface Flags extends Pick<
  PlanOptions,
  "batch" | "sequence" | "imbalance" | "steps" | "efficiency" | "linkEfficiency" | "recompute" | "zero"
> {
  readonly cluster?: string;
  readonly preset?: string;
  readonly archs?: string;
  readonly mode: string;
  readonly ep?: number;
  readonly calibration?: string;
  readonly markdown?: boolean;
  readonly out?: string;
  readonly json?: boolean;
  readonly search?: boolean;
  readonly top?: number;
}

const DEFAULT_PRESET = "gpt2-moe-medium";
/** What a folder's own architecture is planned under. */
const OWN_POLICIES = ["sequential", "pipelined(2)", "adaptive"] as const;

const ms = (x: number): string => x.toFixed(2);

const COLUMNS: readonly Column<PlanRow>[] = [
  { name: "arch", text: (row) => row.arch },
  { name: "policy", text: (row) => row.policy },
  { name: "step ms", text: (row) => ms(row.stepMs) },
  {
    name: "with reduction",
    text: (row) => ms(row.reducedMs ?? NaN),
    isWanted: (rows) => rows.some((row) => row.reducedMs !== undefined),
  },
  { name: "speed-up", text: (row) => `${ms(row.speedUp)} ×` },
  { name: "compute", text: (row) => ms(row.computeMs) },
  { name: "communication", text: (row) => ms(row.communicationMs) },
  { name: "exposed", text: (row) => ms(row.exposedMs) },
  {
    name: "late",
    text: (row) => ms(row.lateMs),
    isWanted: (rows) => rows.some((row) => row.lateMs > 0),
  },
  { name: "hidden", text: (row) => percent(row.overlapShare) },
  { name: "bound", text: (row) => ms(row.lowerBoundMs) },
  {
    name: "memory",
    text: (row) => `${gigabytes(row.memory.total)}${row.fits === false ? ", does not fit" : ""}`,
  },
];

export function addPlan(program: Command): void {
  program
    .command("plan")
    .description("predict step times on a cluster: architectures × policies, best position and placement")
    .argument("[dir]", "run, checkpoint or published folder whose model it is, instead of a preset's")
    .option(
      "--cluster <name>",
      `${CLUSTERS.map((c) => c.name).join(", ")}, or a YAML file that describes one (default: 8xA800-NVLink; with --calibration the calibrated machine)`,
    )
    .option(
      "--calibration <file>",
      "measured rates, written by bench compare --calibration, instead of data sheets'",
    )
    .option("--preset <name>", `model (default: ${DEFAULT_PRESET})`)
    .option(
      "--archs <list>",
      `architecture:policy, separated by spaces; the first is the baseline (default: ${casesText(DEFAULT_CASES)}; of a folder, and of a preset that none of them has: its own, ${OWN_POLICIES.join(", ")})`,
    )
    .option("--mode <mode>", "train or forward", "train")
    .option("--batch <n>", "sequences per rank", numberIn(BOUNDS.batch), 8)
    .option("--sequence <n>", "tokens per sequence (default: the model's longest)", numberIn(BOUNDS.sequence))
    .option(
      "--ep <n>",
      "ranks that share one copy of the experts (default: as many as divide experts and devices)",
      numberIn(BOUNDS.epSize),
    )
    .option("--imbalance <x>", "busiest rank's share of rows over the mean", numberIn(BOUNDS.imbalance), 1)
    .option(
      "--steps <n>",
      "steps to average over when experts are uneven",
      numberIn(BOUNDS.simulatedSteps),
      8,
    )
    .option("--efficiency <x>", "achieved share of the device's matrix rate", numberIn(BOUNDS.efficiency))
    .option("--link-efficiency <x>", "achieved share of the links' rates", numberIn(BOUNDS.efficiency))
    .option("--recompute", "blocks' activations are computed again in the backward pass")
    .option("--zero", "optimiser states are spread over the ranks (ZeRO-1)")
    .option(
      "--search",
      "the fastest optimiser steps that fit, over expert-parallel size × micro-batch × architecture × policy; --batch is per rank and step, --archs names what is combined",
    )
    .option("--top <n>", "rows of --search (default: 10)", numberIn(BOUNDS.rows))
    .option("-o, --out <dir>", "write timeline.html, timeline.json and chart.svg there")
    .option("--markdown", "print the table as Markdown")
    .option("--json", "print the result as JSON")
    .action((directory: string | undefined, flags: Flags) => {
      if (directory !== undefined && flags.preset !== undefined)
        throw new InputError(`plan takes a folder or --preset; found ${directory} and ${flags.preset}`);
      const model = directory === undefined ? (flags.preset ?? DEFAULT_PRESET) : modelInputAt(directory);
      const own = ownArch(
        typeof model === "string" ? preset(model).arch : model.arch,
        directory !== undefined,
      );
      const calibration = flags.calibration === undefined ? undefined : readCalibration(flags.calibration);
      if (flags.mode !== "train" && flags.mode !== "forward")
        throw new InputError(`--mode is train or forward; found "${flags.mode}"`);
      if (flags.search) return search(model, directory ?? flags.preset ?? DEFAULT_PRESET, calibration, flags);
      if (flags.top !== undefined) throw new InputError("--top is of --search; leave it out");
      const { batch, sequence, imbalance, steps, efficiency, linkEfficiency, recompute, zero } = flags;
      const { rows, cluster, epSize } = plan({
        model,
        cluster: flags.cluster === undefined ? undefined : findCluster(flags.cluster),
        calibration,
        cases: casesOf(flags.archs, own),
        epSize: flags.ep,
        mode: flags.mode,
        batch,
        sequence,
        imbalance,
        steps,
        efficiency,
        linkEfficiency,
        recompute,
        zero,
      });
      if (flags.out !== undefined) {
        const titled = rows.map(({ arch, policy, timeline }) => ({
          title: `${arch} ${policy}`,
          predicted: timeline,
        }));
        writePictures(
          flags.out,
          titled,
          rows.map((row) => ({ ...row, mode: flags.mode })),
        );
      }
      if (flags.json) return printJson(rows.map(({ timeline: _timeline, ...row }) => row));
      const fitting = rows.filter(({ fits }) => fits !== false);
      const candidates = fitting.length > 0 ? fitting : rows;
      const best = candidates.reduce((a, b) => (b.stepMs < a.stepMs ? b : a));
      const rates =
        calibration === undefined
          ? `constants: ${cluster.source}; achieved shares: compute ${cluster.computeEfficiency}, links ${cluster.linkEfficiency}`
          : `constants: measured (${calibration.source})`;
      process.stdout.write(
        `${[
          `${directory ?? flags.preset ?? DEFAULT_PRESET} on ${cluster.name}, EP ${epSize}, ${flags.mode}`,
          columnTable(COLUMNS, rows, flags.markdown),
          "",
          fitting.length > 0
            ? `best architecture: ${best.arch}${positionOf(best.arch)}, ${best.policy}`
            : `nothing fits; fastest, had the devices the memory: ${best.arch}${positionOf(best.arch)}, ${best.policy}`,
          ...equallyFast(candidates, best),
          ...(best.placement === "" ? [] : [`best placement: ${best.placement}`]),
          best.note,
          ...memoryLines(rows, best, cluster),
          rates,
        ].join("\n")}\n`,
      );
    });
}

/** What a search has no use for, and what it is left out as. */
const NOT_SEARCHED = { mode: "train", imbalance: 1, out: undefined } as const;

function search(
  model: PlanOptions["model"],
  name: string,
  calibration: PlanOptions["calibration"],
  flags: Flags,
): void {
  for (const key of Object.keys(NOT_SEARCHED) as (keyof typeof NOT_SEARCHED)[])
    if (flags[key] !== NOT_SEARCHED[key])
      throw new InputError(
        `plan --search does not go with --${key}: it looks for whole steps of training, evenly routed`,
      );
  const { batch, sequence, efficiency, linkEfficiency, recompute, zero, top, ep } = flags;
  const asked = flags.archs?.split(/\s+/).map((one) => one.split(":"));
  const policies = asked?.flatMap(([, policy]) => (policy === undefined ? [] : [policy])) ?? [];
  const result = searchLayouts({
    model,
    cluster: flags.cluster === undefined ? undefined : findCluster(flags.cluster),
    calibration,
    archs: asked && [...new Set(asked.map(([arch]) => arch))],
    policies: policies.length === 0 ? undefined : [...new Set(policies)],
    epSizes: ep === undefined ? undefined : [ep],
    batch,
    sequence,
    efficiency,
    linkEfficiency,
    recompute,
    zero,
    top,
  });
  const { cluster } = result;
  const ranks = cluster.nodes * cluster.devicesPerNode;
  const of = `${name} on ${cluster.name}, ${ranks} ranks, ${batch} sequences of ${result.sequence} per rank and step`;
  print(flags, result, layoutTable(result, of, flags.markdown));
}

function casesText(cases: NonNullable<PlanOptions["cases"]>): string {
  return cases.map(({ arch, policy }) => `${arch}:${policy}`).join(" ");
}

/** A folder's model is compared with itself, and so is a preset that is none of the architectures compared otherwise. */
function ownArch(arch: string, isFolder: boolean): string | undefined {
  return isFolder || !DEFAULT_CASES.some((one) => one.arch === arch) ? arch : undefined;
}

/** @param own the model's architecture, where it is compared with itself */
function casesOf(text: string | undefined, own: string | undefined): PlanOptions["cases"] {
  if (text === undefined)
    return own === undefined ? undefined : OWN_POLICIES.map((policy) => ({ arch: own, policy }));
  return text.split(/\s+/).map((one) => {
    const [arch, policy = "sequential"] = one.split(":");
    return { arch, policy };
  });
}

/** Others within a hundredth: quality may choose among them. */
function equallyFast(rows: readonly PlanRow[], best: PlanRow): string[] {
  const near = rows.filter((row) => row !== best && row.stepMs <= best.stepMs * 1.01);
  return near.length === 0
    ? []
    : [`as fast within 1 %: ${near.map((row) => `${row.arch} ${row.policy}`).join(", ")}`];
}

/** ", shortcut position 3" */
function positionOf(arch: string): string {
  const { position } = architecture(arch);
  return position === undefined ? "" : `, shortcut position ${position}`;
}
