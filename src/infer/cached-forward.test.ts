/** The forward pass over a cache against the whole context at once: every architecture, styles, chunks, batches. */
import { afterAll, describe, expect, it } from "vitest";
import { singleCommunicator } from "../comm/single.js";
import type { Tensor } from "../core/tensor.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { ARCHITECTURE_NAMES } from "../model/architectures.js";
import { type ModelConfig, resolveModel } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";
import { createRank } from "../run/rank.js";
import { Session } from "../run/session.js";
import { parsePolicy } from "../schedule/policy.js";
import { sequential } from "../schedule/sequential.js";
import { CachedForward, cachedModel } from "./cached-forward.js";

const engine = createOrtEngine();
afterAll(() => engine.dispose());
const V = 40;
const CAPACITY = 24;
const base = {
  vocab_size: V,
  hidden_size: 32,
  intermediate_size: 48,
  num_attention_heads: 2,
  num_hidden_layers: 4,
  num_experts: 4,
  max_position_embeddings: CAPACITY,
};
const of = (more: object): ModelConfig => resolveModel({ ...base, ...more }, "a test");

const SEQUENCES = [
  [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8],
  [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5],
];

/** Logits of every row, the whole context at once. */
function whole(rank: ReturnType<typeof createRank>, tokens: readonly number[]): Float32Array {
  const S = tokens.length;
  const model = buildProgram(
    { ...rank.config, capacity_factor: null },
    { batch: 1, sequence: CAPACITY, epSize: 1, head: "logits", anyLength: true },
  );
  const session = new Session(rank, model.program, { keep: [model.output] });
  const run = session.run(
    sequential(model.program),
    new Map<number, unknown>([
      [model.tokens, { data: Int32Array.from(tokens), dims: [S] }],
      [model.positions as number, { data: Int32Array.from(tokens.keys()), dims: [S] }],
    ]),
  );
  const logits = run.read<Tensor<Float32Array>>(model.output).data.slice();
  run.release();
  return logits;
}

function expectClose(found: Float32Array, wanted: Float32Array, what: string): void {
  const most = Math.max(...wanted.map(Math.abs));
  found.forEach((value, i) =>
    expect(Math.abs(value - wanted[i]) / most, `${what} [${i}]`).toBeLessThan(1e-5),
  );
}

const CASES: [string, object][] = [
  ...ARCHITECTURE_NAMES.map((arch): [string, object] => [arch, { arch }]),
  ["gpt style, dense", { arch: "dense", style: "gpt" }],
  ["gpt style", { arch: "scmoe-pos2", style: "gpt" }],
  [
    "grouped heads, window, norms",
    { arch: "top2", num_key_value_heads: 1, sliding_window: 5, query_key_norm: "head" },
  ],
  [
    "latent, zero experts",
    {
      arch: "longcat3",
      style: "llama",
      attention: "latent",
      q_lora_rank: 12,
      kv_lora_rank: 9,
      qk_nope_head_dim: 4,
      qk_rope_head_dim: 6,
      v_head_dim: 5,
      num_zero_experts: 2,
    },
  ],
];

describe.each(CASES)("%s", (_name, more) => {
  const rank = createRank({ config: of(more), engine, world: singleCommunicator() });
  rank.weights.initialize(3, 0.2);
  const wanted = SEQUENCES.map((tokens) => whole(rank, tokens));

  it.each(["inputs", "fixed"] as const)("chunks and batches, weights as %s", (weights) => {
    const forward = new CachedForward(rank, rank.config, {
      capacity: CAPACITY,
      rows: { batch: 2, sequence: 8 },
      epSize: 1,
      session: { weights },
    });
    const schedule = sequential(forward.model.program);
    const memory = new Map<number, Float32Array>();
    const run = (first: number, past: number[], tokens: number[], rows: number[]): Float32Array => {
      const result = forward.run(schedule, { tokens, past, wanted: rows }, (block, which) => {
        const size = block.heads * CAPACITY * block.width;
        const key = block[which] as number;
        if (!memory.has(key)) memory.set(key, new Float32Array(2 * size).fill(NaN));
        const data = memory.get(key) as Float32Array;
        return {
          data: data.subarray(first * size, (first + past.length) * size),
          dims: [past.length, block.heads, CAPACITY, block.width],
        };
      });
      const logits = result.read<Tensor<Float32Array>>(forward.model.output).data.slice();
      result.release();
      return logits;
    };
    const expectRows = (found: Float32Array, at: [sequence: number, row: number][], what: string): void =>
      at.forEach(([b, row], i) =>
        expectClose(
          found.subarray(i * V, (i + 1) * V),
          wanted[b].subarray(row * V, (row + 1) * V),
          `${what}, sequence ${b}, row ${row}`,
        ),
      );
    // Each prompt in chunks of its own; logits of some rows, of the last, of none.
    expectRows(
      run(0, [0], SEQUENCES[0].slice(0, 5), [1, 4]),
      [
        [0, 1],
        [0, 4],
      ],
      "chunk",
    );
    expect(run(1, [0], SEQUENCES[1].slice(0, 4), [])).toHaveLength(0);
    expectRows(run(1, [4], SEQUENCES[1].slice(4, 8), [3]), [[1, 7]], "second chunk");
    // Both at once, at different places; then nothing at all.
    for (let i = 0; i < 4; i++)
      expectRows(
        run(0, [5 + i, 8 + i], [SEQUENCES[0][5 + i], SEQUENCES[1][8 + i]], [0, 1]),
        [
          [0, 5 + i],
          [1, 8 + i],
        ],
        "decode",
      );
    expect(run(0, [], [], [])).toHaveLength(0);
    // In company a row has the bits that it has alone; weights that are inputs are not packed, and promise less.
    if (weights === "fixed") {
      const [token, other] = [SEQUENCES[0][8], SEQUENCES[1][11]];
      const alone = run(0, [8], [token], [0]);
      expect(run(0, [8, 11], [token, other], [0])).toEqual(alone);
    }
  });
});

it("splits rows on their way to experts as a policy asks for", () => {
  const transfers = (policy: string): number =>
    cachedModel(of({ arch: "top2" }), {
      ...{ capacity: CAPACITY, rows: { batch: 1, sequence: 8 }, epSize: 2, policy: parsePolicy(policy) },
    }).program.operators.filter(({ kind }) => kind === "transfer").length;
  expect(transfers("pipelined(3)")).toBe(3 * transfers("sequential"));
});
