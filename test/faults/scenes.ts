/**
 * What happens on the faulty disk: data are prepared, a small model is trained, a run is resumed, a run is exported; and what must be
 * there after it.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { exportModel } from "../../src/api/export.js";
import { singleCommunicator } from "../../src/comm/single.js";
import { prepareData } from "../../src/data/prepare.js";
import { newestCheckpoint } from "../../src/storage/checkpoint-names.js";
import { type RunSource, openRun, refuseToMix } from "../../src/train/open-run.js";
import { trainJob } from "../../src/train/train-job.js";
import { contentOf, differences, filesOf, lost } from "./remains.js";

const HERE = new URL("../../", import.meta.url);
const CLI = fileURLToPath(new URL("dist/cli/main.js", HERE));
const FAULTY_DISK = new URL("test/faults/faulty-disk.mjs", HERE).href;

const STEPS = 3;
const KEEP = 2;
/** Where the run that is resumed had stopped. */
const HALF = 2;
const VOCABULARY = 300;
const SETS = [
  `model.vocab_size=${VOCABULARY}`,
  "model.hidden_size=16",
  "model.intermediate_size=16",
  "model.num_attention_heads=2",
  "model.num_hidden_layers=2",
  "model.num_experts=2",
  "model.max_position_embeddings=16",
  "model.arch=scmoe-pos2",
  "train.batch_size=2",
  `train.steps=${STEPS}`,
  "train.checkpoint_interval=1",
  "train.eval_batches=1",
  "schedule.policy=sequential",
];

export interface Scene {
  readonly name: string;
  readonly ranks: number;
  /** Of the command line. */
  readonly args: readonly string[];
  /** Steps that are saved before it begins. */
  readonly saved: number;
  /** The same in this process, in one thread: faster. */
  here(work: string): Promise<void>;
}

const cacheOf = (work: string): string => join(work, "cache");
const runOf = (work: string): string => join(work, "run");
const outOf = (work: string): string => join(work, "out");
/** Not on the disk that fails: nothing of it is written. */
const corpusOf = (work: string): string => join(work, "../corpus.txt");
const flags = (sets: readonly string[]): string[] => sets.flatMap((set) => ["--set", set]);

/** Scenes are played in directories of their own, all with the same path: it is part of what is compared. */
export class Stage {
  readonly work: string;
  /** What a directory came to, by its content: many faults leave the same behind. */
  readonly #ends = new Map<string, readonly string[]>();

  /** @param root a directory to work in */
  constructor(readonly root: string) {
    this.work = join(root, "work");
  }

  /** Plays all scenes undisturbed, to have something to compare with. */
  async prepare(): Promise<void> {
    const empty = this.#template("empty");
    mkdirSync(empty, { recursive: true });
    writeFileSync(corpusOf(this.work), text());
    await this.#make("prepared", "empty", () => prepareHere(this.work));
    for (const ranks of [1, 2]) {
      await this.#make(`half-${ranks}`, "prepared", () => this.#half(ranks));
      await this.#make(`whole-${ranks}`, "prepared", () => this.#undisturbed(trainScene(ranks)));
    }
    await this.#make("exported", "whole-1", () => exportScene.here(this.work));
  }

  /** Sets the stage. */
  set(scene: Scene): void {
    this.#copy(this.#template(before(scene)), this.work);
  }

  /** @param fault for the faulty disk, which is loaded only then @returns exit code, signal, and the lines for people */
  command(scene: Scene, fault?: unknown): { code: number | null; signal: string | null; stderr: string } {
    const { status, signal, stderr } = spawnSync(
      process.execPath,
      [...(fault === undefined ? [] : ["--import", FAULTY_DISK]), CLI, ...scene.args],
      {
        cwd: this.work,
        encoding: "utf8",
        env: { ...process.env, IO_FAULT: fault === undefined ? undefined : JSON.stringify(fault) },
        timeout: 200_000,
        killSignal: "SIGTERM",
      },
    );
    return { code: status, signal, stderr };
  }

  /** What is wrong after a fault: with what is there, and with what it comes to when the user goes on. */
  async problems(scene: Scene): Promise<readonly string[]> {
    if (scene === exportScene) return this.#problemsOfExport();
    const found = scene.args[0] === "data" ? [] : lost(runOf(this.work), scene.saved, KEEP);
    if (found.length > 0) return found;
    const key = contentOf(this.work, scene.ranks);
    const known = this.#ends.get(key);
    if (known !== undefined) return known;
    const end = await this.#goOn(scene);
    this.#ends.set(key, end);
    return end;
  }

  get numEnds(): number {
    return this.#ends.size;
  }

  /** The run is as it was; what was exported is there whole or not at all, and can be exported again, which leaves nothing else. */
  async #problemsOfExport(): Promise<readonly string[]> {
    const whole = this.#template("exported");
    const compared = (of: (work: string) => string): string[] =>
      differences(filesOf(of(whole)), filesOf(of(this.work)));
    const found = [...compared(runOf), ...(existsSync(outOf(this.work)) ? compared(outOf) : [])];
    if (found.length > 0) return found;
    try {
      if (existsSync(outOf(this.work))) rmSync(outOf(this.work), { recursive: true });
      await exportScene.here(this.work);
    } catch (error) {
      return [`does not go on: ${(error as Error).message}`];
    }
    // What this process could not remove is taken away by a later one.
    const left = readdirSync(this.work).filter((name) => !name.includes(`_${process.pid}_`));
    return [
      ...compared(outOf),
      ...left.filter((name) => name.includes(".tmp")).map((name) => `${name} is left over`),
    ];
  }

  async #goOn(scene: Scene): Promise<readonly string[]> {
    const { work } = this;
    const isPreparing = scene.args[0] === "data";
    try {
      if (isPreparing) prepareHere(work);
      else {
        const isSaved = newestCheckpoint(runOf(work)) !== undefined;
        await this.#undisturbed(isSaved ? resumeScene(scene.ranks) : trainScene(scene.ranks));
      }
    } catch (error) {
      return [`does not go on: ${(error as Error).message}`];
    }
    const whole = this.#template(isPreparing ? "prepared" : `whole-${scene.ranks}`);
    if (isPreparing) return differences(filesOf(cacheOf(whole)), filesOf(cacheOf(work)));
    return [...lost(runOf(work), STEPS, KEEP), ...differences(filesOf(runOf(whole)), filesOf(runOf(work)))];
  }

  async #undisturbed(scene: Scene): Promise<void> {
    if (scene.ranks === 1 && !isOfCommand(this.work)) return scene.here(this.work);
    const { code, stderr } = this.command(scene);
    if (code !== 0 || stderr !== "") throw new Error(`exit code ${code}: ${stderr}`);
  }

  /** A run that died after a step's row and before its checkpoint. */
  async #half(ranks: number): Promise<void> {
    await this.#undisturbed(trainScene(ranks, STEPS));
    const run = runOf(this.work);
    rmSync(join(run, "checkpoints", `step-${String(STEPS).padStart(8, "0")}`), { recursive: true });
    const file = join(run, "run.json");
    const kept = `"keep_checkpoints": `;
    writeFileSync(file, readFileSync(file, "utf8").replace(`${kept}${STEPS}`, `${kept}${KEEP}`));
  }

  async #make(name: string, from: string, play: () => void | Promise<void>): Promise<void> {
    this.#copy(this.#template(from), this.work);
    await play();
    this.#copy(this.work, this.#template(name));
  }

  #template(name: string): string {
    return join(this.root, "templates", name);
  }

  #copy(from: string, to: string): void {
    rmSync(to, { recursive: true, force: true });
    cpSync(from, to, { recursive: true });
  }
}

export const prepareScene: Scene = {
  name: "prepare",
  ranks: 1,
  saved: 0,
  args: ["data", "--corpus", "../corpus.txt", "--cache", "cache", "--vocab-size", String(VOCABULARY)],
  here: (work) => Promise.resolve(prepareHere(work)),
};

export const exportScene: Scene = {
  name: "export",
  ranks: 1,
  saved: STEPS,
  args: ["export", "run", "out"],
  here: async (work) => void (await exportModel({ model: runOf(work), out: outOf(work) })),
};

/** The template that a scene begins from. */
function before(scene: Scene): string {
  if (scene === exportScene) return "whole-1";
  if (scene === prepareScene) return "empty";
  return scene.saved === 0 ? "prepared" : `half-${scene.ranks}`;
}

export function trainScene(ranks: number, keep = KEEP): Scene {
  const sets = [...SETS, `train.keep_checkpoints=${keep}`, "data.corpus=../corpus.txt", "data.cache=cache"];
  return {
    name: `train-${ranks}`,
    ranks,
    saved: 0,
    args: ["train", "-q", "-n", String(ranks), "-o", "run", ...flags(sets)],
    here: (work) =>
      trainHere({
        directory: runOf(work),
        sets: [
          ...SETS,
          `train.keep_checkpoints=${keep}`,
          `data.corpus=${corpusOf(work)}`,
          `data.cache=${cacheOf(work)}`,
        ],
      }),
  };
}

export function resumeScene(ranks: number): Scene {
  return {
    name: `resume-${ranks}`,
    ranks,
    saved: HALF,
    args: ["train", "-q", "-n", String(ranks), "--resume", "run"],
    here: (work) =>
      trainHere({
        resume: runOf(work),
        sets: [`data.corpus=${corpusOf(work)}`, `data.cache=${cacheOf(work)}`],
      }),
  };
}

function prepareHere(work: string): void {
  const { train, validation } = prepareData({
    corpus: corpusOf(work),
    vocabSize: VOCABULARY,
    cacheDirectory: cacheOf(work),
  });
  train.close();
  validation.close();
}

async function trainHere(source: RunSource): Promise<void> {
  const run = openRun(source);
  refuseToMix(run);
  const ignore = (): void => undefined;
  const world = singleCommunicator();
  const heard = { emit: ignore, say: ignore, progress: ignore, completed: ignore };
  await trainJob.run({ world, interrupted: () => false, ...heard }, run);
}

/** Whether the command line wrote a run: paths in its record are from the directory that it ran in, or its lock is there. */
function isOfCommand(work: string): boolean {
  if (existsSync(join(runOf(work), "lock.json"))) return true;
  const record = join(runOf(work), "run.json");
  return existsSync(record) && readFileSync(record, "utf8").includes(`"../corpus.txt"`);
}

/** A few kilobytes of English-like text. */
function text(): string {
  const words =
    "the nation people of our great state and congress has to make peace with law in every year".split(" ");
  let state = 1;
  return Array.from({ length: 1200 }, () => {
    state = (state * 48271) % 2147483647;
    return words[state % words.length];
  }).join(" ");
}
