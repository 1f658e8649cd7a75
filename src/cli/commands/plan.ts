import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { preset } from "../../model/presets.js";
import { plan } from "../../plan/plan.js";
import { CLUSTERS, cluster } from "../../simulate/clusters.js";
import { chromeTrace } from "../../view/chrome-trace.js";
import { timelineHtml } from "../../view/timeline-html.js";
import { InputError } from "../../core/errors.js";
import { formatTable, positiveNumber, printJson, wholeNumber } from "../options.js";

interface Flags {
  readonly cluster: string;
  readonly preset: string;
  readonly archs: string;
  readonly mode: string;
  readonly batch: number;
  readonly sequence?: number;
  readonly ep?: number;
  readonly imbalance: number;
  readonly efficiency?: number;
  readonly linkEfficiency?: number;
  readonly out?: string;
  readonly json?: boolean;
}

const DEFAULT_CASES =
  "top2:sequential top2:pipelined(2) shared:sequential scmoe-pos1:adaptive scmoe-pos2:adaptive scmoe-pos3:adaptive";

export function addPlan(program: Command): void {
  program
    .command("plan")
    .description("predict step times on a cluster: architectures × policies, best position and placement")
    .option("--cluster <name>", CLUSTERS.map((c) => c.name).join(", "), "8xA800-NVLink")
    .option("--preset <name>", "model", "gpt2-moe-medium")
    .option(
      "--archs <list>",
      "architecture:policy, separated by spaces; the first is the baseline",
      DEFAULT_CASES,
    )
    .option("--mode <mode>", "train or forward", "train")
    .option("--batch <n>", "sequences per rank", wholeNumber, 8)
    .option("--sequence <n>", "tokens per sequence (default: the model's longest)", wholeNumber)
    .option(
      "--ep <n>",
      "ranks that share one copy of the experts (default: the experts, at most all devices)",
      wholeNumber,
    )
    .option("--imbalance <x>", "busiest rank's share of rows over the mean", positiveNumber, 1)
    .option("--efficiency <x>", "achieved share of the device's matrix rate", positiveNumber)
    .option("--link-efficiency <x>", "achieved share of the links' rates", positiveNumber)
    .option("-o, --out <dir>", "write timeline.html and timeline.json there")
    .option("--json", "print the result as JSON")
    .action((flags: Flags) => {
      const base = cluster(flags.cluster);
      const described = {
        ...base,
        computeEfficiency: flags.efficiency ?? base.computeEfficiency,
        linkEfficiency: flags.linkEfficiency ?? base.linkEfficiency,
      };
      const model = preset(flags.preset);
      if (flags.mode !== "train" && flags.mode !== "forward")
        throw new InputError(`--mode is train or forward; found "${flags.mode}"`);
      const devices = described.devicesPerNode * described.nodes;
      const epSize = flags.ep ?? Math.min(devices, model.num_experts ?? 8);
      if (epSize < 1 || devices % epSize !== 0)
        throw new InputError(`--ep ${epSize} does not divide the ${devices} devices of ${described.name}`);
      if (flags.imbalance < 1) throw new InputError(`--imbalance is at least 1; found ${flags.imbalance}`);
      const rows = plan({
        model,
        cluster: described,
        cases: flags.archs.split(/\s+/).map((text) => {
          const [arch, policy = "sequential"] = text.split(":");
          return { arch, policy };
        }),
        batch: flags.batch,
        sequence: flags.sequence ?? model.max_position_embeddings,
        epSize,
        mode: flags.mode === "train" ? "train" : "loss",
        imbalance: flags.imbalance,
        elementBytes: 2,
      });
      if (flags.out !== undefined) {
        mkdirSync(flags.out, { recursive: true });
        const titled = rows.map((row) => ({
          title: `${row.arch} ${row.policy}`,
          measured: row.timeline,
          predicted: row.timeline,
        }));
        writeFileSync(join(flags.out, "timeline.html"), timelineHtml(titled));
        writeFileSync(join(flags.out, "timeline.json"), JSON.stringify(chromeTrace(titled)));
      }
      if (flags.json) return printJson(rows.map(({ timeline: _timeline, ...row }) => row));
      const table = formatTable(
        ["arch", "policy", "step ms", "speed-up", "compute", "communication", "exposed", "hidden", "bound"],
        rows.map((row) => [
          row.arch,
          row.policy,
          row.stepMs.toFixed(2),
          `${row.speedUp.toFixed(2)} ×`,
          row.computeMs.toFixed(2),
          row.communicationMs.toFixed(2),
          row.exposedMs.toFixed(2),
          `${(row.overlapShare * 100).toFixed(0)} %`,
          row.lowerBoundMs.toFixed(2),
        ]),
      );
      const best = rows.reduce((a, b) => (b.stepMs < a.stepMs ? b : a));
      process.stdout.write(
        `${flags.preset} on ${described.name}, EP ${epSize}, ${flags.mode}\n${table}\n\nbest: ${best.arch} ${best.policy} (${best.note})\nconstants: ${described.source}; achieved shares: compute ${described.computeEfficiency}, links ${described.linkEfficiency}\n`,
      );
    });
}
