/** Everything that reads a file or a text that is not ours. */
import { parseCases } from "../../../src/cli/commands/bench-compare.js";
import { findCluster, readCalibration } from "../../../src/cli/plan-files.js";
import { parseLink } from "../../../src/comm/link.js";
import { Matcher } from "../../../src/data/tokenizer/matcher.js";
import { parsePattern } from "../../../src/data/tokenizer/pattern.js";
import { launchLine, shellLine } from "../../../src/launch/line.js";
import { architecture } from "../../../src/model/architectures.js";
import { resolveModel } from "../../../src/model/config.js";
import { readConfig } from "../../../src/model/families/index.js";
import { inferConfig } from "../../../src/model/infer-config.js";
import { preset } from "../../../src/model/presets.js";
import { parsePolicy } from "../../../src/schedule/policy.js";
import { cluster } from "../../../src/simulate/clusters.js";
import { openMetrics } from "../../../src/storage/metrics.js";
import { modelOf, readRunConfig } from "../../../src/train/config.js";
import { openRun } from "../../../src/train/open-run.js";
import type { Dice } from "./dice.js";
import { checkpoint, fixture, pointer, run } from "./folders.js";
import { attempt } from "./judge.js";
import { json, ofFile, ofText, text, yaml } from "./making.js";
import { changeBytes, changeText, changeTree, jsonText, value } from "./mutate.js";
import * as seeds from "./seeds.js";
import type { Target } from "./target.js";
import { changedTensors, readTensors } from "./tensors.js";
import { corpus, facts, tokenFile, useTokenizer } from "./texts.js";

type Keys = Record<string, unknown>;

function infer(dice: Dice): { input: string; run: () => unknown } {
  const config = changeTree(dice, dice.pick(seeds.HF_CONFIGS));
  const input = dice.chance(0.5) ? jsonText(dice, config) : JSON.stringify(config);
  const shapes = new Map(
    [...seeds.SHAPES].flatMap(([name, dims]) =>
      dice.chance(0.95) ? [[dice.chance(0.02) ? text(dice, [name]) : name, dims] as const] : [],
    ),
  );
  return {
    input,
    run() {
      let keys: unknown;
      try {
        keys = JSON.parse(input);
      } catch {
        return;
      }
      attempt(() => resolveModel(keys, "config.json"));
      // As it comes from a file: an object.
      if (typeof keys === "object" && keys !== null && !Array.isArray(keys))
        for (const read of [
          () => readConfig(keys as Keys, "config.json"),
          () => inferConfig(keys as Keys, shapes, "config.json"),
        ])
          attempt(read);
    },
  };
}

function changedMetrics(dice: Dice): string | Uint8Array {
  if (dice.chance(0.5)) return changeText(dice, seeds.METRICS);
  return dice.chance(0.5)
    ? changeBytes(dice, new TextEncoder().encode(seeds.METRICS))
    : `${seeds.METRICS}${JSON.stringify(value(dice))}\n${seeds.METRICS}`;
}

const parsedYaml = {
  run: {
    model: { preset: "tiny" },
    train: { steps: 3, betas: [0.9, 0.95] },
    data: {},
    schedule: { policy: "adaptive" },
  },
};
const clusterTree = { devices_per_node: 8, tflops: 312, memory_gb_per_s: 2039, intra_gb_per_s: 200 };

export const READERS: readonly Target[] = [
  ofFile("safetensors", 110, "x.safetensors", changedTensors, readTensors),
  checkpoint,
  fixture,
  run,
  pointer,
  ofFile(
    "config.yaml",
    80,
    "run.yaml",
    (dice) => yaml(dice, seeds.RUN_YAML, parsedYaml.run),
    (path) => modelOf(openRun({ config: path }).config),
  ),
  ofText("--set", 80, seeds.SETS, (set) => readRunConfig(undefined, [set])),
  ofFile(
    "cluster.yaml",
    70,
    "cluster.yaml",
    (dice) => yaml(dice, seeds.CLUSTER_YAML, clusterTree),
    findCluster,
  ),
  ofFile(
    "calibration.json",
    60,
    "calibration.json",
    (dice) => json(dice, seeds.CALIBRATION),
    readCalibration,
  ),
  ofFile("tokenizer.json", 20, "tokenizer.json", (dice) => json(dice, seeds.BPE_JSON), useTokenizer),
  ofFile(
    "tokenizer.json of others",
    30,
    "tokenizer.json",
    (dice) => json(dice, dice.pick([seeds.WORDPIECE_JSON, seeds.LLAMA_JSON, seeds.SPLIT_JSON])),
    useTokenizer,
  ),
  ofText("pattern", 20, seeds.PATTERNS, (source) => [
    ...new Matcher(parsePattern(source, "a pattern")).matches(seeds.TEXT),
  ]),
  tokenFile,
  corpus,
  facts,
  ofFile("metrics.jsonl", 50, "metrics.jsonl", changedMetrics, (path) => {
    openMetrics(path, 2);
  }),
  { name: "config.json", weight: 70, make: infer },
  ofText("policy", 60, seeds.POLICIES, parsePolicy),
  ofText("link", 60, seeds.LINKS, parseLink),
  ofText("names", 60, seeds.NAMES, (name) => {
    for (const find of [architecture, preset, cluster]) attempt(() => find(name));
  }),
  ofText("cases", 30, seeds.CASES, (list) => parseCases(list, ["sequential"])),
  ofText("hosts", 30, seeds.HOSTS, (hosts) =>
    shellLine(
      launchLine({
        hosts: hosts.split(","),
        ranksPerHost: 1,
        slurm: false,
        asRoot: false,
        command: ["node"],
      }),
    ),
  ),
];
