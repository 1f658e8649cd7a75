/** Everything that reads a file or a text that is not ours. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseCases } from "../../../src/cli/commands/bench-compare.js";
import { findCluster, readCalibration } from "../../../src/cli/plan-files.js";
import { parseLink } from "../../../src/comm/link.js";
import { evalBatch, numWindows, trainBatch } from "../../../src/data/batches.js";
import { SMALLEST_VOCABULARY, BpeTokenizer, trainBpe } from "../../../src/data/bpe.js";
import { readCorpus } from "../../../src/data/corpus.js";
import { openPrepared, prepareData } from "../../../src/data/prepare.js";
import { TokenFile, writeTokenFile } from "../../../src/data/token-file.js";
import { Matcher } from "../../../src/data/tokenizer/matcher.js";
import { parsePattern } from "../../../src/data/tokenizer/pattern.js";
import { encodePrompt, loadTokenizer } from "../../../src/data/tokenizer.js";
import { launchLine, shellLine } from "../../../src/launch/line.js";
import { architecture } from "../../../src/model/architectures.js";
import { resolveModel } from "../../../src/model/config.js";
import { readConfig } from "../../../src/model/families/index.js";
import { inferConfig } from "../../../src/model/infer-config.js";
import { preset } from "../../../src/model/presets.js";
import { checkTensors, checkpointConfig } from "../../../src/run/load-weights.js";
import { parsePolicy } from "../../../src/schedule/policy.js";
import { cluster } from "../../../src/simulate/clusters.js";
import { findCheckpoint, newestCheckpoint } from "../../../src/storage/checkpoint-names.js";
import { CheckpointReader } from "../../../src/storage/checkpoint-reader.js";
import { openMetrics } from "../../../src/storage/metrics.js";
import { SafetensorsReader } from "../../../src/storage/safetensors.js";
import { modelOf, readRunConfig } from "../../../src/train/config.js";
import { openFixture } from "../../../src/train/fixture.js";
import { openRun } from "../../../src/train/open-run.js";
import type { Dice } from "./dice.js";
import { attempt } from "./judge.js";
import { YAML_SCRAPS, changeBytes, changeText, changeTree, jsonText, string, value } from "./mutate.js";
import * as seeds from "./seeds.js";
import type { Place, Target } from "./target.js";

const text = (dice: Dice, list: readonly string[]): string => {
  const word = changeText(dice, dice.pick(list));
  return dice.chance(0.05) ? string(dice) : word;
};
const yaml = (dice: Dice, seed: string, tree: unknown): string =>
  dice.chance(0.6) ? changeText(dice, seed, YAML_SCRAPS) : jsonText(dice, changeTree(dice, tree));
const json = (dice: Dice, tree: unknown): string => jsonText(dice, changeTree(dice, tree));

/** Names of tensors that a test looks at: the first and the last. */
const few = (names: readonly string[]): readonly string[] => [...names.slice(0, 4), ...names.slice(-2)];

const ofText = (
  name: string,
  weight: number,
  list: readonly string[],
  read: (text: string) => unknown,
): Target => ({
  name,
  weight,
  make: (dice) => {
    const input = text(dice, list);
    return { input, run: () => read(input) };
  },
});

const ofFile = (
  name: string,
  weight: number,
  file: string,
  make: (dice: Dice) => string | Uint8Array,
  read: (path: string, dice: Dice) => unknown,
): Target => ({
  name,
  weight,
  make: (dice, place) => {
    const input = make(dice);
    const path = place.write(file, input);
    return { input, run: () => read(path, dice) };
  },
});

function readTensors(path: string): void {
  const file = SafetensorsReader.open(path);
  try {
    for (const name of few(file.names)) {
      const { dims } = file.info(name);
      attempt(() => file.readF32(name));
      attempt(() => file.readI32(name));
      if (dims.length > 0) attempt(() => file.readInto(name, new Float32Array(1), Math.max(0, dims[0] - 1)));
    }
    attempt(() => file.info("no such tensor"));
  } finally {
    file.close();
  }
}

function changedTensors(dice: Dice): Uint8Array {
  const { header, bytes } = seeds.FEW_TENSORS;
  if (dice.chance(0.3))
    return changeBytes(
      dice,
      dice.chance(0.5)
        ? seeds.safetensors(JSON.stringify(header), new Uint8Array(bytes))
        : seeds.FIXTURE_TOKENS,
    );
  const body = new Uint8Array(dice.chance(0.8) ? bytes : dice.below(2 * bytes));
  return seeds.safetensors(
    dice.chance(0.7) ? JSON.stringify(changeTree(dice, header)) : json(dice, header),
    body,
  );
}

type Files = Readonly<Record<string, string | Uint8Array>>;
const digestOf = (content: string | Uint8Array) => ({
  bytes: Buffer.byteLength(content),
  sha256: createHash("sha256").update(content).digest("hex"),
});

const CHECKPOINT: Files = {
  "config.json": JSON.stringify(seeds.MODEL_JSON),
  "trainer_state.json": JSON.stringify(seeds.TRAINER_STATE),
  "tokenizer.json": JSON.stringify(seeds.BPE_JSON),
  "model.safetensors": seeds.WEIGHTS,
  "optimizer.safetensors": seeds.MOMENTS,
};
const DIGESTS = Object.fromEntries(
  Object.entries(CHECKPOINT).map(([file, content]) => [file, digestOf(content)]),
);
const INDEX = {
  metadata: { total_size: seeds.WEIGHTS.length },
  weight_map: Object.fromEntries([...seeds.SHAPES.keys()].map((name) => [name, "model.safetensors"])),
};

/** A directory of which one file is changed. The others are there already, from the case before. */
function changedDirectory(
  place: Place,
  folder: string,
  files: Files,
  changed: { readonly file: string; readonly content: string | Uint8Array },
): void {
  const all = { ...files, [changed.file]: changed.content };
  for (const [name, content] of Object.entries(all)) {
    const path = `${folder}/${name}`;
    if (written.get(path) !== content) place.write(path, content);
    written.set(path, content);
  }
  for (const path of written.keys())
    if (path.startsWith(`${folder}/`) && !(path.slice(folder.length + 1) in all)) {
      place.remove(path);
      written.delete(path);
    }
}
const written = new Map<string, string | Uint8Array>();

const checkpoint: Target = {
  name: "checkpoint",
  weight: 40,
  make(dice, place) {
    const folder = "checkpoints/step-00000010";
    const [file, content] = dice.pick<(d: Dice) => [string, string | Uint8Array]>([
      (d) => ["config.json", json(d, seeds.MODEL_JSON)],
      (d) => ["trainer_state.json", json(d, seeds.TRAINER_STATE)],
      (d) => ["digests.json", json(d, DIGESTS)],
      (d) => ["model.safetensors.index.json", json(d, INDEX)],
      (d) => ["optimizer.safetensors.index.json", json(d, INDEX)],
      (d) => ["model.safetensors", changeBytes(d, seeds.WEIGHTS, seeds.MOMENTS)],
      (d) => ["optimizer.safetensors", changeBytes(d, seeds.MOMENTS, seeds.WEIGHTS)],
      (d) => ["tokenizer.json", json(d, seeds.BPE_JSON)],
    ])(dice);
    // Digests that fit: what they would notice must be noticed without them, too.
    const fits = dice.chance(0.7) && file !== "digests.json";
    const facts = fits ? { ...DIGESTS, [file]: digestOf(content) } : DIGESTS;
    const others: Files = { ...CHECKPOINT, "digests.json": JSON.stringify(facts) };
    changedDirectory(place, folder, others, { file, content });
    const path = place.path(folder);
    const advise = dice.chance(0.1);
    const verifies = dice.chance(0.2);
    return {
      input: content,
      run() {
        const reader = new CheckpointReader(findCheckpoint(path), advise);
        try {
          if (verifies) reader.verify();
          reader.json("trainer_state.json");
          const config = checkpointConfig(reader);
          const dims = (name: string) => reader.dims("model", name);
          attempt(() => checkTensors(config, { where: path, names: reader.names("model"), dims }, "refused"));
          for (const kind of ["model", "optimizer"] as const)
            for (const name of few(reader.names(kind))) {
              attempt(() => reader.dims(kind, name));
              attempt(() => reader.readInto(kind, name, new Float32Array(8)));
              attempt(() => reader.readPiecesInto(kind, name.split("@")[0], new Float32Array(8), 0));
            }
        } finally {
          reader.close();
        }
        attempt(() => loadTokenizer(path));
      },
    };
  },
};

const fixture: Target = {
  name: "fixture",
  weight: 30,
  make(dice, place) {
    const [file, content] = dice.pick<(d: Dice) => [string, string | Uint8Array]>([
      (d) => ["run.json", json(d, seeds.FIXTURE)],
      (d) => ["run.json", json(d, { ...seeds.FIXTURE, config: d.pick(seeds.HF_CONFIGS) })],
      (d) => ["initial.safetensors", changeBytes(d, seeds.WEIGHTS, seeds.MOMENTS)],
      (d) => ["tokens.safetensors", changeBytes(d, seeds.FIXTURE_TOKENS)],
      (d) => ["logits0.safetensors", changedTensors(d)],
    ])(dice);
    const files: Files = {
      "run.json": JSON.stringify(seeds.FIXTURE),
      "initial.safetensors": seeds.WEIGHTS,
      "gradients0.safetensors": seeds.WEIGHTS,
      "final.safetensors": seeds.WEIGHTS,
      "tokens.safetensors": seeds.FIXTURE_TOKENS,
    };
    changedDirectory(place, "fixture", files, { file, content });
    return { input: content, run: () => openFixture(place.path("fixture")).close() };
  },
};

const run: Target = {
  name: "run.json",
  weight: 70,
  make(dice, place) {
    const input = json(dice, seeds.RUN_JSON);
    place.write("run/run.json", input);
    const sets = dice.chance(0.3) ? [text(dice, seeds.SETS)] : [];
    return { input, run: () => modelOf(openRun({ resume: place.path("run"), sets }).config) };
  },
};

const pointer: Target = {
  name: "latest",
  weight: 10,
  make(dice, place) {
    const input = text(dice, ["step-00000010\n", "step-00000010"]);
    place.write("pointed/checkpoints/latest", input);
    place.write("pointed/checkpoints/step-00000010/x", "");
    return { input, run: () => newestCheckpoint(place.path("pointed")) };
  },
};

const corpus: Target = {
  name: "corpus",
  weight: 30,
  make(dice, place) {
    const bytes = new TextEncoder().encode(seeds.TEXT);
    const input = dice.chance(0.5) ? changeText(dice, seeds.TEXT, [string]) : changeBytes(dice, bytes);
    const isFolder = dice.chance(0.3);
    const path = place.write(isFolder ? "corpus/one.txt" : "corpus.txt", input);
    const vocabulary = SMALLEST_VOCABULARY + dice.below(12);
    const prepares = dice.chance(0.03);
    return {
      input,
      run() {
        const source = isFolder ? place.path("corpus") : path;
        const { train, validation } = readCorpus(source);
        const model = trainBpe(train, vocabulary);
        const tokenizer = new BpeTokenizer(model);
        for (const part of [...train, ...validation]) {
          const back = tokenizer.decode(tokenizer.encode(part));
          if (back !== new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(part)))
            throw new Error("decode(encode(text)) is another text");
        }
        if (!prepares) return;
        place.remove("cache");
        const data = prepareData({
          corpus: source,
          vocabSize: vocabulary,
          cacheDirectory: place.path("cache"),
        });
        data.train.close();
        data.validation.close();
      },
    };
  },
};

const facts: Target = {
  name: "facts.json",
  weight: 10,
  make(dice, place) {
    if (!written.has("prepared")) {
      written.set("prepared", "");
      place.write("prepared/tokenizer.json", JSON.stringify(seeds.BPE_JSON));
      for (const part of ["train", "validation"])
        writeTokenFile(place.path(`prepared/${part}.tokens`), [[1, 2, 3, 4]], 277);
    }
    const input = json(dice, { corpus: "x", unigramEntropy: 4.5 });
    place.write("prepared/facts.json", input);
    return {
      input,
      run() {
        const data = openPrepared(place.path("prepared"), 300);
        data.train.close();
        data.validation.close();
      },
    };
  },
};

const tokenFile: Target = {
  name: "token file",
  weight: 60,
  make(dice, place) {
    const wide = dice.chance(0.3);
    const seed = wide ? "wide.tokens" : "narrow.tokens";
    if (!written.has(seed)) {
      writeTokenFile(place.path(seed), [Array.from({ length: 200 }, (_, i) => i % 50)], wide ? 100_000 : 50);
      written.set(seed, readFileSync(place.path(seed)));
    }
    const input = changeBytes(dice, written.get(seed) as Uint8Array);
    const path = place.write("x.tokens", input);
    return {
      input,
      run() {
        const file = TokenFile.open(path);
        try {
          const shape = { sequence: 8, batch: 2, ranks: 2, seed: 1 };
          numWindows(file, 8);
          attempt(() => trainBatch(file, shape, { position: 12, micro: 0, rank: 1 }));
          attempt(() => evalBatch(file, shape, { first: 2, real: 1 }));
          attempt(() => file.read(file.length - 1, new Int32Array(1)));
        } finally {
          file.close();
        }
      },
    };
  },
};

function useTokenizer(path: string, dice: Dice): void {
  const tokenizer = loadTokenizer(path);
  const ids = tokenizer.encode(dice.chance(0.5) ? seeds.TEXT : text(dice, [seeds.TEXT]));
  tokenizer.decode(ids);
  encodePrompt(tokenizer, "");
  tokenizer.decode([0, tokenizer.endOfText, dice.below(tokenizer.vocabSize)]);
}

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
