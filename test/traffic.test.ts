/** The traffic of 256 ranks, counted on one: a rank's training step on the null communicator, against formulas. */
import { describe, expect, it } from "vitest";
import { type Message, nullCommunicator } from "./null-communicator.js";
import { sliceOf } from "../src/comm/regions.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { resolveModel } from "../src/model/config.js";
import { sequential } from "../src/schedule/sequential.js";
import { trainStep } from "../src/train/step.js";
import { openStep } from "../src/train/step-sessions.js";
import { createTrainee } from "../src/train/trainee.js";

const SIZE = 256;
const RANK = 37;
const WIDTH = 32;
const BATCH = 4;
const SEQUENCE = 32;
const PAIRS = 2;

function step(options: { arch: string; epSize: number; zero?: boolean; wire?: "bf16" }) {
  const world = nullCommunicator({ rank: RANK, size: SIZE });
  const engine = createOrtEngine();
  const config = resolveModel({
    arch: options.arch,
    vocab_size: 300,
    hidden_size: WIDTH,
    intermediate_size: 2 * WIDTH,
    num_attention_heads: 2,
    num_hidden_layers: 2 * PAIRS,
    num_experts: SIZE,
    max_position_embeddings: SEQUENCE,
  });
  const { epSize, zero } = options;
  const rank = createTrainee({ config, engine, world, epSize, zero, bucketElements: 10_000 });
  rank.weights.initialize(1, 0.02);
  const sessions = openStep(
    rank,
    { batch: BATCH, sequence: SEQUENCE, epSize, wire: options.wire },
    sequential,
  );
  const tokens = Int32Array.from({ length: BATCH * SEQUENCE }, (_, i) => (i * 37) % 300);
  const optimizer = { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip_norm: 1 } as const;
  const report = trainStep(rank, sessions, [{ tokens, labels: tokens, firstToken: 0 }], {
    step: 0,
    seed: 0,
    learningRate: 1e-3,
    optimizer,
  });
  engine.dispose();
  const messages = (pattern: RegExp): Message[] => world.messages.filter((m) => pattern.test(m.operator));
  return { rank, report, messages, all: world.messages };
}

const total = (messages: readonly Message[]): number => messages.reduce((sum, m) => sum + m.bytes, 0);

describe("a training step of one of 256 ranks", () => {
  it.each([
    { arch: "top2", topK: 2, epSize: 256 },
    { arch: "scmoe-pos2", topK: 1, epSize: 256 },
    { arch: "scmoe-pos2", topK: 1, epSize: 64 },
  ])("$arch, EP $epSize: rows to the experts and back, twice", ({ arch, topK, epSize }) => {
    const { messages, rank } = step({ arch, epSize });
    const block = RANK - (RANK % epSize);
    for (const pass of [/dispatch$/, /combine$/, /dispatch'$/, /combine'$/]) {
      const sent = messages(pass);
      // One message to every other rank of the group, empty ones included, per pair.
      expect(sent.length).toBe(PAIRS * (epSize - 1));
      expect(new Set(sent.map((m) => m.to)).size).toBe(epSize - 1);
      for (const { to, from, bytes } of sent) {
        expect([from, to >= block, to < block + epSize]).toEqual([RANK, true, true]);
        expect(bytes % (WIDTH * 4)).toBe(0);
      }
    }
    const rows = BATCH * SEQUENCE * topK;
    const dispatched = total(messages(/dispatch$/));
    expect(dispatched).toBeLessThanOrEqual(PAIRS * rows * WIDTH * 4);
    // All but what stays on this rank: a fair share of the rows, with room for luck.
    expect(dispatched).toBeGreaterThan(PAIRS * rows * WIDTH * 4 * 0.7);
    for (const pass of [/combine$/, /dispatch'$/, /combine'$/])
      expect(total(messages(pass))).toBe(dispatched);
    expect(rank.weights.buckets.some((b) => b.kind === "expert")).toBe(true);
  });

  it("bf16 on the wire halves the rows", () => {
    const [f32, bf16] = [
      step({ arch: "top2", epSize: 256 }),
      step({ arch: "top2", epSize: 256, wire: "bf16" }),
    ];
    expect(total(bf16.messages(/dispatch$/)) * 2).toBe(total(f32.messages(/dispatch$/)));
  });

  it.each([256, 64])("EP %i: gradients, each bucket twice over the wire less the own slice", (epSize) => {
    const { messages, rank } = step({ arch: "scmoe-pos2", epSize });
    const replicas = SIZE / epSize;
    for (const { name, kind, size } of rank.weights.buckets) {
      const [ranks, me] = kind === "replicated" ? [SIZE, RANK] : [replicas, Math.floor(RANK / epSize)];
      const ofBucket = messages(new RegExp(`${name.replace(".", "\\.")}\\b`));
      const { start, end } = sliceOf(size, me, ranks);
      const scattered = (size - (end - start)) * 4;
      const gathered = (end - start) * 4 * (ranks - 1);
      expect(ofBucket.length).toBe(2 * (ranks - 1));
      expect(total(ofBucket)).toBe(scattered + gathered);
      if (kind === "expert")
        for (const { to } of ofBucket) expect([to % epSize, to === RANK]).toEqual([RANK % epSize, false]);
    }
  });

  it("ZeRO-1's gathering of weights is part of the step's timeline", () => {
    const { report, messages } = step({ arch: "scmoe-pos2", epSize: 64, zero: true });
    const gathered = report.runs.flatMap(({ events }) => events.filter((e) => e.class === "weights"));
    expect(gathered.length).toBeGreaterThan(0);
    expect(gathered.every(({ stream }) => stream === "network")).toBe(true);
    expect(gathered.reduce((sum, { bytes = 0 }) => sum + bytes, 0)).toBe(total(messages(/^weights/)));
  });

  it("ZeRO-1 gathers weights instead of gradients: the same bytes", () => {
    const [plain, zero] = [
      step({ arch: "scmoe-pos2", epSize: 64 }),
      step({ arch: "scmoe-pos2", epSize: 64, zero: true }),
    ];
    expect(total(zero.all)).toBe(total(plain.all));
    expect(zero.messages(/^weights replicated/).length).toBeGreaterThan(0);
    expect(zero.rank.stateBytes).toBeLessThan(plain.rank.stateBytes);
  });
});
