/**
 * Cached decoding of every architecture and every published family: as recomputing within 1e-5, alone and batched, whatever the chunks; the
 * same bits on any number of ranks, under any schedule, over MPI. A long trace on a real model: each text is what it is alone.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { singleCommunicator } from "../../src/comm/single.js";
import { philox } from "../../src/core/rng.js";
import type { Tensor } from "../../src/core/tensor.js";
import { createOrtEngine } from "../../src/engine/ort-engine.js";
import { CachedForward } from "../../src/infer/cached-forward.js";
import { type EngineOptions, openEngine } from "../../src/infer/open-engine.js";
import { GREEDY } from "../../src/infer/sampling/sampling-parameters.js";
import type { QuantisedForm } from "../../src/kernel/quantise.js";
import { ARCHITECTURE_NAMES } from "../../src/model/architectures.js";
import type { ModelConfig } from "../../src/model/config.js";
import { buildProgram } from "../../src/model/language-model.js";
import { createInferenceRank } from "../../src/run/inference-rank.js";
import { openModel } from "../../src/run/open-model.js";
import { Session } from "../../src/run/session.js";
import { sequential } from "../../src/schedule/sequential.js";
import { CLI, HAS_MPI, MPIRUN, MPI_ENV, temporaryDirectory } from "../helpers.js";
import { type Told, smallModel, withEngine, write } from "../inference.js";
import { PUBLISHED, writePublished } from "../published.js";

const dir = temporaryDirectory();
const ort = createOrtEngine();
afterAll(() => ort.dispose());

const LENGTH = 36;
const CAPACITY = 40;
type Services = ReturnType<typeof createInferenceRank>;

function sequences(vocabulary: number): number[][] {
  return [0, 1].map((s) => Array.from({ length: LENGTH }, (_, i) => (i * 37 + s * 11 + 3) % vocabulary));
}

function opened(directory: string): { readonly rank: Services; readonly config: ModelConfig } {
  const { config, source } = openModel(directory);
  const world = singleCommunicator();
  return { config, rank: createInferenceRank({ config, engine: ort, world, source, form: "f32" }) };
}

/** Logits of every row, the whole context at once, [S, V]. */
function recomputed(rank: Services, config: ModelConfig): (tokens: readonly number[]) => Float32Array {
  const of = { batch: 1, sequence: CAPACITY, epSize: 1, head: "logits", anyLength: true } as const;
  const model = buildProgram({ ...config, capacity_factor: null }, of);
  const session = new Session(rank, model.program, { keep: [model.output] });
  return (tokens) => {
    const dims = [tokens.length];
    const run = session.run(
      sequential(model.program),
      new Map<number, unknown>([
        [model.tokens, { data: Int32Array.from(tokens), dims }],
        [model.positions as number, { data: Int32Array.from(tokens.keys()), dims }],
      ]),
    );
    const logits = run.read<Tensor<Float32Array>>(model.output).data.slice();
    run.release();
    return logits;
  };
}

/** Feeds rows of sequences that lie one after another in a cache of their own. */
function cached(
  rank: Services,
  config: ModelConfig,
): (first: number, past: number[], tokens: number[]) => Float32Array {
  const forward = new CachedForward(rank, config, {
    capacity: CAPACITY,
    rows: { batch: 2, sequence: LENGTH },
    epSize: 1,
  });
  const schedule = sequential(forward.model.program);
  const memory = new Map<number, Float32Array>();
  return (first, past, tokens) => {
    const wanted = [...tokens.keys()];
    const run = forward.run(schedule, { tokens, past, wanted }, (block, which) => {
      const size = block.heads * CAPACITY * block.width;
      const key = block[which] as number;
      if (!memory.has(key)) memory.set(key, new Float32Array(2 * size).fill(NaN));
      const data = (memory.get(key) as Float32Array).subarray(first * size, (first + past.length) * size);
      return { data, dims: [past.length, block.heads, CAPACITY, block.width] };
    });
    const logits = run.read<Tensor<Float32Array>>(forward.model.output).data.slice();
    run.release();
    return logits;
  };
}

/** The largest difference, relative to the largest logit. */
function difference(found: Float32Array, wanted: Float32Array): number {
  const most = wanted.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return found.reduce((max, value, i) => Math.max(max, Math.abs(value - wanted[i]) || 0), 0) / most;
}

function expectAsRecomputed(directory: string): void {
  const { rank, config } = opened(directory);
  const V = config.vocab_size;
  const all = sequences(V);
  const wanted = all.map(recomputed(rank, config));
  const feed = cached(rank, config);
  const rows = (s: number, from: number, to: number): Float32Array => wanted[s].subarray(from * V, to * V);
  const check = (found: Float32Array, to: Float32Array, what: string): void => {
    expect(found.every(Number.isFinite), what).toBe(true);
    expect(found.length).toBe(to.length);
    expect(difference(found, to), what).toBeLessThan(1e-5);
  };
  for (const chunk of [1, 7, 16, LENGTH])
    for (let at = 0; at < LENGTH; at += chunk) {
      const end = Math.min(at + chunk, LENGTH);
      check(feed(0, [at], all[0].slice(at, end)), rows(0, at, end), `rows from ${at} in chunks of ${chunk}`);
    }
  // A row of each at once, at different places.
  feed(0, [0], all[0].slice(0, 20));
  feed(1, [0], all[1].slice(0, 9));
  for (let i = 0; i < 8; i++) {
    const found = feed(0, [20 + i, 9 + i], [all[0][20 + i], all[1][9 + i]]);
    check(found.subarray(0, V), rows(0, 20 + i, 21 + i), `batched, ${i}`);
    check(found.subarray(V), rows(1, 9 + i, 10 + i), `batched, the other, ${i}`);
  }
}

const STYLES = ["gpt", "llama"] as const;
const MODELS: [string, (directory: string) => Promise<void>][] = [
  ...ARCHITECTURE_NAMES.flatMap((arch) =>
    STYLES.map((style): [string, (directory: string) => Promise<void>] => [
      `${arch} ${style}`,
      (directory) => smallModel(directory, { arch, style }),
    ]),
  ),
  ...Object.keys(PUBLISHED).map((family): [string, (directory: string) => Promise<void>] => [
    family,
    (directory) => writePublished(family, directory),
  ]),
];

const REQUESTS = [37, 3, 16, 25].map((length, i) => ({
  length,
  sampling: { maxNewTokens: 9 - i, temperature: i % 2, seed: i, logprobs: 2 },
}));

async function texts(directory: string, options: EngineOptions, together: boolean): Promise<Told[]> {
  return withEngine(directory, { chunk: 16, ...options }, async (engine) => {
    const ask = ({ length, sampling }: (typeof REQUESTS)[number]): Promise<Told> =>
      write(
        engine,
        Array.from({ length }, (_, at) => (at * 37 + length * 5) % engine.vocabSize),
        sampling,
      );
    if (together) return Promise.all(REQUESTS.map(ask));
    const told: Told[] = [];
    for (const request of REQUESTS) told.push(await ask(request));
    return told;
  });
}

describe.each(MODELS)("%s", (name, make) => {
  const directory = join(dir, name.replaceAll(/\W/g, "-"));
  beforeAll(() => make(directory));

  it("decodes as recomputing does, alone and batched, in any chunks", () => expectAsRecomputed(directory));

  it("writes the same bits on any ranks, under any schedule", async () => {
    const alone = await texts(directory, {}, false);
    const policies: [number | undefined, string][] = [
      [undefined, "adaptive"],
      [2, "adaptive"],
      [2, "pipelined(2)"],
      ...(name === "scmoe-pos2 gpt" || name === "dgmoe llama"
        ? ([
            [1, "sequential"],
            [2, "sequential"],
            [2, "fixed(1)"],
            [4, "adaptive"],
          ] as [number, string][])
        : []),
      ...(name.startsWith("longcat") ? ([[2, "fixed(four-stage)"]] as [number, string][]) : []),
    ];
    for (const [ranks, policy] of policies)
      expect(await texts(directory, { ranks, policy }, true), `${ranks} ranks, ${policy}`).toEqual(alone);
  });
});

describe("a small model", () => {
  const directory = join(dir, "small");
  beforeAll(() => smallModel(directory, { arch: "scmoe-pos2" }));

  it.each(["int8", "int4"] as QuantisedForm[])(
    "with weights in %s writes the same alone and in company, and another text than in f32",
    async (form) => {
      const alone = await texts(directory, { form }, false);
      expect(await texts(directory, { form }, true)).toEqual(alone);
      expect(await texts(directory, { form, ranks: 2 }, true)).toEqual(alone);
      expect(await texts(directory, {}, true)).not.toEqual(alone);
    },
  );

  it.skipIf(!HAS_MPI)("writes the same over MPI", () => {
    const args = ["generate", directory, "--ids", "5,6,7,8", "--tokens", "20", "--json", "--logprobs", "2"];
    const run = (command: string, ...before: string[]): unknown => {
      const { status, stdout, stderr } = spawnSync(command, [...before, CLI, ...args], {
        ...{ encoding: "utf8", env: MPI_ENV, timeout: 60_000, killSignal: "SIGKILL" },
      });
      expect(status, stderr).toBe(0);
      return JSON.parse(stdout);
    };
    const [mpirun, ...how] = MPIRUN;
    expect(run(mpirun, ...how, "-n", "2", process.execPath)).toEqual(run(process.execPath));
  });

  it.each([undefined, 2])(
    "a thousand requests that come and go write what each writes alone (ranks: %s)",
    async (ranks) => {
      const count = ranks === undefined ? 1_000 : 400;
      const random = philox(4, "trace");
      let drawn = 0;
      const below = (n: number): number => Math.floor(random.uniform(drawn++) * n);
      const requests = Array.from({ length: count }, () => {
        // Of few kinds, so that each kind need be written alone only once; many begin alike.
        const kind = below(60);
        const length = [3, 9, 20, 33, 50, 70][kind % 6];
        const prompt = Array.from({ length }, (_, i) => (i * 7 + (i < 32 ? kind % 3 : kind)) % 300);
        const maxNewTokens = 1 + (kind % 17);
        return {
          ...{ kind, prompt, leavesAfter: below(5) === 0 ? below(maxNewTokens) : undefined },
          sampling: { ...GREEDY, maxNewTokens, temperature: kind % 2, seed: kind },
        };
      });
      const alone = new Map<number, string>();
      await withEngine(directory, { chunk: 16 }, async (engine) => {
        for (const { kind, prompt, sampling } of requests)
          if (!alone.has(kind)) {
            const { tokens } = await write(engine, prompt, sampling);
            alone.set(kind, tokens.map(({ id }) => `${id},`).join(""));
          }
      });
      const opened = await openEngine(directory, { chunk: 16, ranks, cacheBytes: 4 * 64 * 1024 });
      if (opened === undefined) throw new Error("there is no launcher");
      const { engine } = opened;
      const wrong: unknown[] = [];
      await Promise.all(
        requests.map(
          ({ kind, prompt, sampling, leavesAfter }) =>
            new Promise<void>((resolve, reject) => {
              const ids: number[] = [];
              const sequence = engine.submit(
                { prompt, sampling },
                {
                  token({ id }) {
                    ids.push(id);
                    if (leavesAfter !== undefined && ids.length > leavesAfter) sequence.cancel();
                    return undefined;
                  },
                  end(reason) {
                    const all = alone.get(kind)!;
                    const told = ids.map((id) => `${id},`).join("");
                    const isRight = reason === "cancelled" ? all.startsWith(told) : all === told;
                    if (!isRight) wrong.push({ kind, reason, told, all });
                    resolve();
                  },
                  failed: reject,
                },
              );
              if (leavesAfter === 0 && kind % 2 === 0) sequence.cancel();
            }),
        ),
      );
      expect(wrong).toEqual([]);
      const { preemptions, prefixHitTokens } = engine.figures();
      expect([preemptions > 0, prefixHitTokens > 100]).toEqual([true, true]);
      await engine.close();
    },
  );
});
