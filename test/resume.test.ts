/** Resuming is a contract: what was promised is kept, what changes is said and recorded, what would be another run is refused. */
import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { RunRecord } from "../src/train/run-directory.js";
import { MINI, type Ran, metricRows, scmoe, temporaryDirectory } from "./helpers.js";

const dir = temporaryDirectory();
const train = (run: string, ...more: string[]): Ran => scmoe(["train", "-o", run, ...MINI, ...more], dir);
const resume = (run: string, ...more: string[]): Ran => scmoe(["train", "--resume", run, ...more], dir);
const set = (...keys: string[]): string[] => keys.flatMap((key) => ["--set", key]);
const figures = (run: string, key: string) => metricRows(join(dir, run)).map((row) => row[key]);
const record = (run: string) => JSON.parse(readFileSync(join(dir, run, "run.json"), "utf8")) as RunRecord;
const checkpoints = (run: string) => readdirSync(join(dir, run, "checkpoints")).sort();
const copy = (from: string, to: string): void => cpSync(join(dir, from), join(dir, to), { recursive: true });

beforeAll(() => {
  const text = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  writeFileSync(join(dir, "book.txt"), text);
  const all = ["data.corpus=book.txt", "train.checkpoint_interval=2", "train.keep_checkpoints=10"];
  expect(train("two", "-n", "2", ...set(...all)).code).toBe(0);
  expect(train("longer", "-n", "2", ...set(...all, "train.steps=9", "train.decay_steps=6")).code).toBe(0);
});

describe("a resumed run", () => {
  it("keeps ranks and the learning rate's course, stores what is set, and goes on with it after a kill", () => {
    copy("two", "more");
    const { code, stderr } = resume("more", ...set("train.steps=9"));
    expect(code).toBe(0);
    expect(stderr).toMatch(/Changed: train.steps 6 → 9: the numbers stay/);
    expect(stderr).toMatch(/keeps the course of 6 steps and stays at 0.0001 .*train.decay_steps=9/);
    for (const key of ["loss", "grad_norm", "learning_rate"])
      expect(figures("more", key)).toEqual(figures("longer", key));
    expect(record("more")).toMatchObject({
      ranks: 2,
      config: { train: { steps: 9, decay_steps: 6, warmup_steps: 1 } },
      changes: [{ step: 6, key: "train.steps", from: 6, to: 9 }],
    });
    // As if killed after step 8.
    rmSync(join(dir, "more", "checkpoints", "step-00000009"), { recursive: true });
    expect(resume("more").code).toBe(0);
    expect(figures("more", "loss")).toEqual(figures("longer", "loss"));
  });

  it("says what another number of ranks does to the numbers", () => {
    copy("two", "one");
    const { stderr } = resume("one", "-n", "1", ...set("train.steps=7"));
    expect(stderr).toMatch(/Changed: ranks 2 → 1: the numbers stay the same within rounding/);
    expect(record("one").ranks).toBe(1);
  });

  it("that is complete says so, and stays as it was", () => {
    const before = readFileSync(join(dir, "two", "run.json"), "utf8");
    const { code, stderr, stdout } = resume("two", "--json");
    expect(code).toBe(0);
    expect(stderr).toMatch(/The run is complete: 6 of 6 steps/);
    expect(JSON.parse(stdout)).toMatchObject({ steps: 6, trainLoss: null, tokensPerSecond: null });
    expect(readFileSync(join(dir, "two", "run.json"), "utf8")).toBe(before);
  });

  it("that is complete keeps no more checkpoints than it should: it may have been killed before it removed the oldest", () => {
    copy("two", "full");
    expect(checkpoints("full")).toHaveLength(4);
    expect(resume("full", ...set("train.keep_checkpoints=2")).code).toBe(0);
    expect(checkpoints("full")).toEqual(["latest", "step-00000004", "step-00000006"]);
  });

  it.each([
    ["data.corpus=sotu", /data.corpus "book.txt" → "sotu"/],
    ["train.seed=1", /train.seed 0 → 1/],
    ["train.batch_size=4", /train.batch_size 8 → 4/],
    ["data.sequence_length=16", /data.sequence_length 32 → 16/],
    ["model.router_aux_loss_coef=0.1", /model.router_aux_loss_coef 0.01 → 0.1/],
  ])("refuses to become another one by %s", (key, message) => {
    const before = readFileSync(join(dir, "two", "run.json"), "utf8");
    const { code, stderr } = resume("two", ...set(key, "train.steps=8"));
    expect([code, stderr.split("\n").length]).toEqual([2, 2]);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/--allow-change/);
    expect(readFileSync(join(dir, "two", "run.json"), "utf8")).toBe(before);
  });

  it("goes on as another one where that is allowed, with its own tokenizer, and records it", () => {
    copy("two", "other");
    writeFileSync(join(dir, "other.txt"), "Another text altogether, for a while. ".repeat(500));
    const tokenizer = (step: number) =>
      readFileSync(join(dir, "other", "checkpoints", `step-0000000${step}`, "tokenizer.json"), "utf8");
    const keys = ["data.corpus=other.txt", "train.batch_size=4", "train.steps=8"];
    const { code, stderr } = resume("other", "--allow-change", ...set(...keys));
    expect([code, stderr]).toEqual([0, expect.stringMatching(/another run from here on/)]);
    expect(record("other").changes?.map(({ step, key }) => [step, key])).toContainEqual([6, "data.corpus"]);
    expect(tokenizer(8)).toBe(tokenizer(6));
    const state = join(dir, "other", "checkpoints", "step-00000008", "trainer_state.json");
    // The position in the text is one of sequences, not of steps: 6 steps of 8, then 2 of 4.
    expect(JSON.parse(readFileSync(state, "utf8"))).toMatchObject({ step: 8, sequences: 56 });
  });

  it("refuses a text that is no longer what it was", () => {
    const text = readFileSync(join(dir, "book.txt"), "utf8");
    writeFileSync(join(dir, "book.txt"), `${text}\nOne line more.\n`);
    const { code, stderr } = resume("two", "-q", ...set("train.steps=8"));
    writeFileSync(join(dir, "book.txt"), text);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/text of book.txt "\w+" → "\w+"/)]);
  });

  it("from an earlier checkpoint sets the later branch aside before its first row", () => {
    copy("two", "back");
    const { stderr } = resume("back/checkpoints/step-00000002", ...set("train.steps=3"));
    expect(stderr).toMatch(/Set aside as .*abandoned-1.*step-00000006/);
    expect(figures("back", "step")).toEqual([1, 2, 3]);
    expect(checkpoints("back")).toEqual(["abandoned-1", "latest", "step-00000002", "step-00000003"]);
    expect(resume("back", ...set("train.steps=6", "train.eval_batches=1")).code).toBe(0);
    expect(figures("back", "loss")).toEqual(figures("two", "loss"));
  });
});

describe("saving", () => {
  it("goes by time as well", () => {
    const keys = ["train.checkpoint_minutes=0.000001", "train.keep_checkpoints=10", "train.steps=3"];
    expect(train("timed", "-q", "-n", "2", ...set(...keys)).code).toBe(0);
    expect(checkpoints("timed")).toEqual(["latest", "step-00000001", "step-00000002", "step-00000003"]);
  });

  it("a warm-up that never ends is told", () => {
    const { stderr } = train("slow", ...set("train.warmup_steps=12"));
    expect(stderr).toMatch(/warmup_steps 12 is more than train.steps 6: the learning rate ends at 0.000500/);
  });
});
