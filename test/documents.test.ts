/** Documents in one window, told apart: each is computed as if it stood alone. */
import { cpSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { evaluate } from "../src/api/evaluate.js";
import type { Tensor } from "../src/core/tensor.js";
import { documentStarts } from "../src/data/batches.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { ARCHITECTURE_NAMES } from "../src/model/architectures.js";
import { type ModelProgram, type ProgramOptions, buildProgram } from "../src/model/language-model.js";
import { Session } from "../src/run/session.js";
import { sequential } from "../src/schedule/sequential.js";
import type { Trainee } from "../src/train/trainee.js";
import { shortDocuments, temporaryDirectory } from "./helpers.js";
import { LAYOUTS, expectSameGradients, expectSameLosses, relative, train } from "./parallel.js";
import { VOCABULARY, smallTrainee } from "./trainee.js";

const END = 0;
const BATCH = 2;
/** More than one tile of scores; documents end within tiles and at the edge of one. */
const LENGTHS = [
  [3, 61, 1, 15, 70],
  [100, 28, 22],
];
const SEQUENCE = 150;

const engine = createOrtEngine();
afterAll(() => engine.dispose());

/** Random words and an end of text; the last of a window is cut off before it. */
function documents(seed: number): number[][][] {
  let word = seed;
  const next = (): number => 1 + ((word = (word * 1103 + 12345) % 65536) % (VOCABULARY - 1));
  return LENGTHS.map((lengths) =>
    lengths.map((length, d) =>
      Array.from({ length }, (_, i) => (d < lengths.length - 1 && i === length - 1 ? END : next())),
    ),
  );
}

/** A model's forward pass over windows of any text. */
function forward(rank: Trainee, options: Pick<ProgramOptions, "head"> & Partial<ProgramOptions>) {
  const sizes = { batch: BATCH, sequence: SEQUENCE, epSize: 1 };
  const model: ModelProgram = buildProgram(rank.config, { ...sizes, ...options });
  const session = new Session(rank, model.program, { keep: [model.output] });
  return (tokens: Int32Array, labels: Int32Array): Float32Array => {
    const dims = [tokens.length];
    const feeds = new Map<number, unknown>([[model.tokens, { data: tokens, dims }]]);
    if (model.labels !== undefined) feeds.set(model.labels, { data: labels, dims });
    if (model.positions !== undefined)
      feeds.set(model.positions, { data: Int32Array.from(tokens.keys()), dims });
    if (model.starts !== undefined)
      feeds.set(model.starts, {
        data: documentStarts(tokens, SEQUENCE, END),
        dims: [BATCH, SEQUENCE],
      });
    const run = session.run(sequential(model.program), feeds);
    const found = run.read<Tensor<Float32Array>>(model.output).data.slice();
    run.release();
    return found;
  };
}

const flat = (windows: readonly number[][][]): Int32Array => Int32Array.from(windows.flat(2));
/** Of each token the one behind it, the last of all aside. */
const followers = (tokens: Int32Array): Int32Array => tokens.map((_, t) => tokens[t + 1] ?? 5);

const models = ["gpt", "llama"].flatMap((style) => ARCHITECTURE_NAMES.map((arch) => [style, arch] as const));

describe.each(models)("%s %s", (style, arch) => {
  const rank = smallTrainee(engine, arch, style, SEQUENCE);

  it("a document's losses in a window are those that it has alone", () => {
    const windows = documents(1);
    const tokens = flat(windows);
    const labels = followers(tokens);
    const packed = forward(rank, { head: "losses", documents: true })(tokens, labels);
    const mixed = forward(rank, { head: "losses" })(tokens, labels);
    const single = forward(rank, { head: "losses", batch: 1, anyLength: true });
    let [at, affected] = [0, 0];
    for (const [d, document] of windows.flat().entries()) {
      const part = [at, at + document.length] as const;
      const alone = single(Int32Array.from(document), labels.slice(...part));
      alone.forEach((loss, i) =>
        expect(Math.abs(packed[at + i] - loss), `document ${d}, ${i}`).toBeLessThan(1e-5),
      );
      if (Math.max(...alone.map((loss, i) => Math.abs(mixed[at + i] - loss))) > 1e-3) affected++;
      at += document.length;
    }
    // All but the first of each window see others when nothing keeps them from it.
    expect(affected).toBe(LENGTHS.flat().length - BATCH);
  });

  it("a change in one document leaves the logits of the others alone", () => {
    const before = documents(1);
    const after = documents(1);
    // The second document of the first window, all of it but its end.
    after[0][1] = after[0][1].map((token) => (token === END ? END : (token % (VOCABULARY - 1)) + 1));
    const [from, to] = [LENGTHS[0][0], LENGTHS[0][0] + LENGTHS[0][1]];
    // How much the logits of each token change, largest.
    const [told, mixed] = [true, false].map((documents) => {
      const logits = forward(rank, { head: "logits", documents });
      const [a, b] = [before, after].map((windows) => logits(flat(windows), new Int32Array()));
      const change = a.map((logit, i) => Math.abs(logit - b[i]));
      return Array.from({ length: BATCH * SEQUENCE }, (_, t) =>
        Math.max(...change.subarray(t * VOCABULARY, (t + 1) * VOCABULARY)),
      );
    });
    // Bit for bit, except that other rows in an expert's product may round another way.
    const none = arch === "dense" ? 0 : 1e-5;
    for (const changes of [told, mixed]) {
      expect(Math.min(...changes.slice(from, to - 1))).toBeGreaterThan(1e-2);
      expect(Math.max(...changes.slice(0, from), ...changes.slice(SEQUENCE))).toBeLessThanOrEqual(none);
    }
    expect(Math.max(...told.slice(to))).toBeLessThanOrEqual(none);
    expect(Math.min(...mixed.slice(to, SEQUENCE))).toBeGreaterThan(1e-3);
  });
});

it("documentStarts(): an end of text belongs to the document that it ends; a window begins at 0", () => {
  const tokens = Int32Array.of(7, END, 5, 5, END, END, 4, END, END, 3, 2, 1);
  expect([...documentStarts(tokens, 6, END)]).toEqual([0, 0, 2, 2, 2, 5, 0, 0, 2, 3, 3, 3]);
});

it("a run tells documents apart in training and evaluation, on any ranks alike; `eval` does as the run did", async () => {
  const corpus = shortDocuments();
  const [given, told] = [["train.steps=4", `data.corpus=${corpus}`], "data.document_mask=true"];
  const one = await train([...given, told], { ranks: 1 });
  const run = await train([...given, told], LAYOUTS["DP 2 × EP 2"]);
  expectSameLosses(run, one);
  expectSameGradients(run, one);
  const mixed = await train(given, { ranks: 1 });
  expect(relative(mixed.losses, one.losses)).toBeGreaterThan(1e-4);
  const task = { corpus, cache: temporaryDirectory(), batches: 1, batchSize: 8 };
  const { directory: model, result } = one;
  const asTrained = await evaluate({ model, ...task });
  expect(asTrained).toMatchObject({ loss: result.validationLoss, documentMask: true });
  // A checkpoint by itself does not say.
  const copy = join(temporaryDirectory(), "copy");
  cpSync(asTrained.checkpoint, copy, { recursive: true });
  const unasked = await evaluate({ model: copy, ...task });
  expect(unasked.documentMask).toBe(false);
  expect(Math.abs(unasked.loss - asTrained.loss)).toBeGreaterThan(1e-5);
  expect(await evaluate({ model, ...task, documentMask: false })).toMatchObject({ loss: unasked.loss });
  expect(await evaluate({ model: copy, ...task, documentMask: true })).toMatchObject({
    loss: asTrained.loss,
  });
});
