/** Folders of which one file is changed: checkpoints, fixtures, runs. */
import { createHash } from "node:crypto";
import { loadTokenizer } from "../../../src/data/tokenizer.js";
import { checkpointConfig } from "../../../src/run/load-weights.js";
import { checkTensors } from "../../../src/run/weight-checks.js";
import { findCheckpoint, newestCheckpoint } from "../../../src/storage/checkpoint-names.js";
import { CheckpointReader } from "../../../src/storage/checkpoint-reader.js";
import { modelOf } from "../../../src/train/config.js";
import { openFixture } from "../../../src/train/fixture.js";
import { openRun } from "../../../src/train/open-run.js";
import type { Dice } from "./dice.js";
import { attempt } from "./judge.js";
import { few, json, text } from "./making.js";
import { changeBytes } from "./mutate.js";
import * as seeds from "./seeds.js";
import type { Place, Target } from "./target.js";
import { changedTensors } from "./tensors.js";

/** What the files of folders hold, from the case before. */
const written = new Map<string, string | Uint8Array>();

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

export const checkpoint: Target = {
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

export const fixture: Target = {
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

export const run: Target = {
  name: "run.json",
  weight: 70,
  make(dice, place) {
    const input = json(dice, seeds.RUN_JSON);
    place.write("run/run.json", input);
    const sets = dice.chance(0.3) ? [text(dice, seeds.SETS)] : [];
    return { input, run: () => modelOf(openRun({ resume: place.path("run"), sets }).config) };
  },
};

export const pointer: Target = {
  name: "latest",
  weight: 10,
  make(dice, place) {
    const input = text(dice, ["step-00000010\n", "step-00000010"]);
    place.write("pointed/checkpoints/latest", input);
    place.write("pointed/checkpoints/step-00000010/x", "");
    return { input, run: () => newestCheckpoint(place.path("pointed")) };
  },
};
