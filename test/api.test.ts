/** The library as a program uses it: events, signals, results; nothing on the terminal. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import {
  InputError,
  type LineEvent,
  type RunInput,
  type StepEvent,
  compare,
  evaluate,
  generate,
  train,
} from "../src/index.js";
import { temporaryDirectory } from "./helpers.js";

const home = temporaryDirectory();
const directory = join(home, "run");
const cache = join(home, "cache");
const corpus = join(home, "corpus.txt");
const sentence = (i: number): string => `Number ${(i * 7919) % 1000} of the people is on the hill. `;
writeFileSync(corpus, Array.from({ length: 2000 }, (_, i) => sentence(i)).join("\n"));
const model = {
  arch: "scmoe-pos2",
  vocab_size: 300,
  hidden_size: 32,
  intermediate_size: 64,
  num_attention_heads: 2,
  num_hidden_layers: 4,
  num_experts: 4,
  max_position_embeddings: 32,
};
const config: RunInput = {
  model,
  data: { cache, corpus },
  train: { steps: 8, batch_size: 4, eval_batches: 1, eval_interval: 2 },
};

it("trains until its signal is aborted, and goes on later", async () => {
  const heard: (LineEvent | StepEvent)[] = [];
  const controller = new AbortController();
  const stopped = await train({
    config,
    directory,
    ranks: 2,
    signal: controller.signal,
    onEvent(event) {
      heard.push(event);
      if (event.kind === "step" && event.step === 2) controller.abort();
    },
  });
  expect(stopped.interrupted).toBe(true);
  expect(stopped.steps).toBeLessThan(8);
  const steps = heard.filter((event) => event.kind === "step");
  expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: stopped.steps }, (_, i) => i + 1));
  expect(steps[0]).toMatchObject({ steps: 8, validationLoss: null, learningRate: 1e-3 });
  expect(steps[1].validationLoss).toBeGreaterThan(4);
  expect(steps[1].loss).toBeGreaterThan(4);
  expect(heard.some((event) => event.kind === "progress" && event.line.includes("2/8"))).toBe(true);

  await expect(train({ config, directory })).rejects.toThrow(/already holds a run/);
  const { signal } = new AbortController();
  const whole = await train({ resume: directory, signal });
  expect([whole.steps, whole.interrupted]).toEqual([8, false]);
});

it("stops before the first step with a signal that was aborted before", async () => {
  const prepared = { config, directory: join(home, "never"), signal: AbortSignal.abort() };
  expect(await train(prepared)).toMatchObject({ steps: 1, interrupted: true });
});

it("evaluates", async () => {
  const { loss, perplexity } = await evaluate({ model: directory, cache, corpus, batches: 2 });
  expect(perplexity).toBeCloseTo(Math.exp(loss), 6);
  const other = join(home, "utf-16.txt");
  writeFileSync(other, readFileSync(corpus, "utf8"), "utf16le");
  const again = { model: directory, cache, corpus: other, encoding: "utf-16le", batches: 2 };
  expect((await evaluate(again)).loss).toBe(loss);
});

it("writes text in pieces, until its signal is aborted", async () => {
  const pieces: string[] = [];
  const options = { model: directory, prompt: "The", maxNewTokens: 12, seed: 3 };
  const written = await generate({ ...options, onText: (text) => pieces.push(text) });
  expect(pieces.join("")).toBe(written.text);
  expect(await generate(options)).toEqual(written);
  const controller = new AbortController();
  const part = await generate({ ...options, signal: controller.signal, onText: () => controller.abort() });
  expect(part.stopped).toBe("aborted");
  expect(written.text.startsWith(part.text)).toBe(true);
  expect(part.newTokens).toBeLessThan(written.newTokens);
});

it("ends a text before a stop string, and writes nothing twice where that is punished", async () => {
  const options = { model: directory, prompt: "The", maxNewTokens: 12, seed: 3 };
  const { text } = await generate(options);
  const stop = text.slice(3, 6);
  const pieces: string[] = [];
  const ended = await generate({ ...options, stop: ["not there", stop], onText: (t) => pieces.push(t) });
  expect(ended).toMatchObject({ text: text.slice(0, text.indexOf(stop)), stopped: "stop string" });
  expect(pieces.join("")).toBe(ended.text);
  expect(ended.newTokens).toBeLessThan(12);
  const greedy = { model: directory, prompt: "The", maxNewTokens: 40, temperature: 0 };
  const { ids } = await generate({ ...greedy, presencePenalty: 2, repetitionPenalty: 1000 });
  expect(new Set(ids).size).toBe(ids.length);
  expect(new Set((await generate(greedy)).ids).size).toBeLessThan(40);
});

it("compares, and refuses what it does not know", async () => {
  const { arch: _arch, ...sizes } = model;
  const cases = [{ arch: "top2", policy: "sequential" }];
  const result = await compare({
    model: sizes,
    cases,
    modes: ["forward"],
    rounds: 1,
    batch: 1,
    link: "1gbit,50us",
  });
  expect(result.rows.map(({ arch, mode }) => [arch, mode])).toEqual([["top2", "forward"]]);
  expect(result.link).toEqual({ bytesPerMs: 125_000, latencyMs: 0.05 });
  await expect(compare({ model: sizes, cases: [{ arch: "top2", policy: "magic" }] })).rejects.toThrow(
    InputError,
  );
});
