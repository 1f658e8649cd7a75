/** N ranks = 1 rank, for one architecture; all of them in test/heavy. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  LAYOUTS,
  type Layout,
  type Run,
  STEPS,
  expectSameGradients,
  expectSameLosses,
  relative,
  stepName,
  train,
} from "./parallel.js";

const runs = new Map<string, Promise<Run>>();
/** A run that several tests look at. */
function shared(layout: Layout): Promise<Run> {
  const key = JSON.stringify(layout);
  let run = runs.get(key);
  if (run === undefined) runs.set(key, (run = train([], layout)));
  return run;
}
const ONE: Layout = { ranks: 1 };

it.each(Object.entries(LAYOUTS))("a run on %s is the run on one rank", async (_, layout) => {
  const [run, one] = [await shared(layout), await shared(ONE)];
  expectSameLosses(run, one);
  expectSameGradients(run, one);
});

it("a layout gives the same bits every time, with ZeRO-1 or without", async () => {
  const layout = LAYOUTS["DP 2 × EP 2"];
  const first = await shared(layout);
  const [second, zero] = [await train([], layout), await train([], { ...layout, zero: true })];
  expect(second.losses).toEqual(first.losses);
  expect(zero.losses).toEqual(first.losses);
  expect(zero.norms).toEqual(first.norms);
  expect(zero.result.memory.stateBytes).toBeLessThan(first.result.memory.stateBytes);
});

it("8 ranks on few cores, experts without a token, one token per rank", async () => {
  const sets = ["model.num_experts=16", "data.sequence_length=1", "schedule.policy=sequential"];
  const run = await train(sets, { ranks: 8 });
  // 8 tokens for 8 ranks with top-1: some rank's experts get none.
  expectSameLosses(run, await train(sets, ONE));
});

it("bf16 on the wire costs little accuracy, and not none", async () => {
  const run = await train([], { ranks: 2, wire: "bf16" });
  const error = relative(run.losses, (await shared(ONE)).losses);
  expect(error).toBeLessThan(1e-3);
  expect(error).toBeGreaterThan(1e-7);
});

describe("checkpoints move between layouts, with the state of the optimiser", () => {
  it.each([
    ["EP 4", LAYOUTS["EP 4"], [1, 2, 8]],
    ["DP 2 × EP 2 with ZeRO-1", { ...LAYOUTS["DP 2 × EP 2"], zero: true }, [2]],
  ])("written on %s", async (_, layout, readers) => {
    const sets = ["model.num_experts=8"];
    const written = await train(sets, layout);
    for (const ranks of readers) {
      const resumed = await train(sets, { ranks }, { run: written, step: STEPS / 2 });
      expectSameLosses(resumed, written);
    }
    // Every rank writes its share: nobody had to hold the whole.
    const folder = join(written.directory, "checkpoints", stepName(STEPS / 2));
    for (const kind of ["model", "optimizer"]) {
      const sizes = readdirSync(folder)
        .filter((name) => name.startsWith(kind) && name.endsWith(".safetensors"))
        .map((name) => statSync(join(folder, name)).size);
      expect(sizes.length).toBe(4);
      expect(Math.max(...sizes)).toBeLessThan(0.5 * sizes.reduce((a, b) => a + b, 0));
    }
  });
});
