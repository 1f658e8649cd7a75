/** An engine on any number of ranks, under any schedule, alone and in company: the same tokens and log probabilities, bit for bit. */
import { beforeAll, describe, expect, it } from "vitest";
import { temporaryDirectory } from "./helpers.js";
import { type Told, smallModel, withEngine, write } from "./inference.js";

const dir = temporaryDirectory();
const SEQUENCES = Array.from({ length: 5 }, (_, i) => ({
  // Longer than a chunk, shorter, and exactly one.
  prompt: Array.from({ length: [60, 3, 16, 55, 9][i] }, (_token, at) => (at * 37 + i * 11) % 300),
  sampling: {
    maxNewTokens: 20 - 2 * i,
    temperature: i % 2,
    seed: i,
    logprobs: 2,
  },
}));

// Other architectures, styles, ranks and policies: test/heavy/inference.test.ts.
describe("scmoe-pos2", () => {
  const directory = `${dir}/scmoe-pos2`;
  const alone: Told[] = [];
  beforeAll(async () => {
    await smallModel(directory, { arch: "scmoe-pos2" });
    await withEngine(directory, { chunk: 16 }, async (engine) => {
      for (const { prompt, sampling } of SEQUENCES) alone.push(await write(engine, prompt, sampling));
    });
  });

  it("writes something", () => {
    alone.forEach(({ tokens, end }, i) => {
      expect(tokens).toHaveLength(SEQUENCES[i].sampling.maxNewTokens);
      expect(end).toBe("length");
    });
  });

  it.each([
    ["together", {}],
    ["2 ranks, adaptive", { ranks: 2, policy: "adaptive" }],
    // A step of one token has a chunk of rows that is empty.
    ["2 ranks, in chunks", { ranks: 2, policy: "pipelined(2)" }],
    // Three granules of 64 rows: what grows beyond the first must have another's.
    ["preempted", { cacheBytes: 3 * 64 * 1024 }],
  ])("%s", async (how, options) => {
    await withEngine(directory, { chunk: 16, ...options }, async (engine) => {
      const together = await Promise.all(
        SEQUENCES.map(({ prompt, sampling }) => write(engine, prompt, sampling)),
      );
      expect(together).toEqual(alone);
      if (how === "preempted") expect(engine.figures().preemptions).toBeGreaterThan(0);
    });
  });

  it("prompts that begin alike: what has been read is not read again", async () => {
    const beginning = SEQUENCES[0].prompt;
    const asked = [beginning, [...beginning.slice(0, 40), 7, 8], [...beginning, 5]];
    const sampling = { maxNewTokens: 4, logprobs: 2 };
    const wanted = await withEngine(directory, { chunk: 16 }, async (engine) => [
      await write(engine, asked[0], sampling),
    ]);
    for (const prompt of asked.slice(1))
      wanted.push(await withEngine(directory, { chunk: 16 }, (engine) => write(engine, prompt, sampling)));
    await withEngine(directory, { chunk: 16 }, async (engine) => {
      const found = [];
      for (const prompt of asked) found.push(await write(engine, prompt, sampling));
      expect(found).toEqual(wanted);
      expect(engine.figures().prefixHitTokens).toBe(32 + 48);
    });
  });
});
