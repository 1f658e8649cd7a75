/**
 * A model runner without a model: rows of the cache are token ids, and a token is a function of the rows that stand in its
 * sequence's slot, so that it is wrong where the cache is. Every step has an exchange, as a sharded model's has.
 */
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { transformSync } from "esbuild";
import { sumScalars } from "../src/comm/collectives.js";
import type { Communicator } from "../src/comm/communicator.js";
import { KvCache } from "../src/infer/cache/kv-cache.js";
import {
  type ModelRunner,
  type RankStep,
  type RunnerEvent,
  serveModel,
} from "../src/infer/ranks/rank-runner.js";
import { RankSequences } from "../src/infer/ranks/rank-sequences.js";
import type { RankPlan } from "../src/infer/step-plan.js";
import { type Job, type JobContext, defineJob } from "../src/launch/job.js";

export const VOCABULARY = 40;
const LAYERS = [
  { heads: 2, width: 16, tensors: 2 },
  { heads: 1, width: 32, tensors: 1 },
] as const;
export const FAKE_SHAPE = { slots: 4, capacity: 64, chunk: 4, budgetRows: 96, granule: 4 };

/** The token after these. */
export function nextToken(tokens: readonly number[]): number {
  const hash = tokens.reduce((sum, token) => Math.imul(sum ^ (token + 1), 16777619) >>> 0, 2166136261);
  return (hash >>> 8) % VOCABULARY;
}

/** What goes wrong on the last rank, at the first step that decodes. */
export type Trouble = "throws" | "exits" | "exits between steps" | "throws while opening";

class FakeModel implements ModelRunner {
  readonly shape = FAKE_SHAPE;
  readonly #cache = new KvCache({ ...FAKE_SHAPE, layers: LAYERS, blockRows: FAKE_SHAPE.chunk });
  readonly #sequences = new RankSequences({
    createSampler: () => ({ next: ([id]) => ({ id }), accept: () => undefined }),
    tokenLogprob: ([next], id, top) => ({ id, logprob: -next, rank: top, top: [[0, -Infinity]] }),
  });
  #rows = 0;

  constructor(
    readonly world: Communicator,
    readonly trouble: Trouble | undefined,
  ) {}

  run(plan: RankPlan): RankStep {
    if (plan.decode.length > 0) this.#meetTrouble();
    const { prefill, decode } = this.#sequences.begin(plan);
    this.#cache.apply(plan.cache);
    prefill?.ids.forEach((id, row) => this.#write(prefill.slot, prefill.past + row, id));
    decode.ids.forEach((id, slot) => this.#write(slot, decode.pasts[slot], id));
    [this.#rows] = sumScalars(this.world, [(prefill?.ids.length ?? 0) + decode.ids.length], "rows");
    const result = this.#sequences.end(plan, {
      prefill: (row) => this.#logits(prefill!.slot, prefill!.past + row + 1),
      decode: (slot) => this.#logits(slot, decode.pasts[slot] + 1),
    });
    return { result, times: { prefillMs: this.#rows, decodeMs: 0, exposedMs: 0, communicationMs: 0 } };
  }

  answer(question: unknown): unknown {
    const [ranks] = sumScalars(this.world, [1], "who is there");
    return { question, ranks, rows: this.#rows };
  }

  close(): void {
    this.#rows = -1;
  }

  /** Every element of every head and tensor is the token. */
  #write(slot: number, row: number, id: number): void {
    LAYERS.forEach(({ heads, width, tensors }, layer) => {
      for (const which of (["keys", "values"] as const).slice(0, tensors)) {
        const { data } = this.#cache.view(layer, which, slot, 1);
        for (let head = 0; head < heads; head++) {
          const at = (head * this.#cache.capacity + row) * width;
          data.fill(id + 1, at, at + width);
        }
      }
    });
  }

  #logits(slot: number, rows: number): Float32Array {
    const { data } = this.#cache.view(0, "values", slot, 1);
    const second = this.#cache.capacity * LAYERS[0].width;
    const tokens = Array.from({ length: rows }, (_, row) => data[second + row * LAYERS[0].width] - 1);
    return Float32Array.of(nextToken(tokens));
  }

  #meetTrouble(): void {
    if (this.world.rank < this.world.size - 1) return;
    if (this.trouble === "throws") throw new Error("broken in the middle");
    if (this.trouble === "exits") process.exit(3);
  }
}

export function fakeModel(world: Communicator, trouble?: Trouble): ModelRunner {
  if (trouble === "throws while opening" && world.rank === world.size - 1) throw new Error("no such model");
  return new FakeModel(world, trouble);
}

export interface FakeOptions {
  readonly trouble?: Trouble | undefined;
}

export const fakeJob = defineJob(
  import.meta.url,
  "fakeJob",
  (context: JobContext<RunnerEvent>, { trouble }: FakeOptions) => {
    context.say("opening");
    const { rank, size } = context.world;
    const completed = (step: number): void => {
      context.completed(step);
      if (trouble === "exits between steps" && step === 1 && rank === size - 1) process.exit(3);
    };
    serveModel({ ...context, completed }, (world) => fakeModel(world, trouble));
  },
);

/** The job in a module that ranks can import: what was built, and this file. */
export function builtFakeJob(): Job<FakeOptions, void, RunnerEvent> {
  const { code } = transformSync(readFileSync(new URL(import.meta.url), "utf8"), { loader: "ts" });
  const dist = new URL("../dist/", import.meta.url).href;
  const esbuild = import.meta.resolve("esbuild");
  const file = join(mkdtempSync(join(tmpdir(), "scmoe-test-")), "fake-model.mjs");
  writeFileSync(file, code.replaceAll('"../src/', `"${dist}`).replace('"esbuild"', `"${esbuild}"`));
  return { ...fakeJob, module: pathToFileURL(file).href };
}
