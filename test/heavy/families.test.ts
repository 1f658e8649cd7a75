/** Models as published families have them, trained: any schedule gives the same bytes, any number of ranks the same numbers. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { modelToJson } from "../../src/model/config.js";
import { openModel } from "../../src/run/open-model.js";
import { metricRows, scmoe, temporaryDirectory } from "../helpers.js";

const FOLDERS = new URL("../fixtures/hf/", import.meta.url).pathname;
const dir = temporaryDirectory();

/** A config file of a family's model with the words of a tokenizer that can be trained. */
function configOf(family: string): string {
  const { config, close } = openModel(join(FOLDERS, family));
  close();
  const { end_tokens: _ends, padding_token: _padding, ...model } = modelToJson(config);
  const path = join(dir, `${family}.yaml`);
  const run = {
    model: { ...model, vocab_size: 300, max_position_embeddings: 32 },
    train: { batch_size: 8, steps: 4, eval_batches: 1 },
  };
  writeFileSync(path, JSON.stringify(run));
  return path;
}

let runs = 0;
function train(family: string, ranks: number, more: readonly string[]) {
  const out = `${family}-${runs++}`;
  const line = ["train", "-q", "--json", "-c", configOf(family), "-o", out, "-n", String(ranks), ...more];
  const { stdout, stderr } = scmoe(line, dir);
  expect(stderr).toBe("");
  return { rows: metricRows(join(dir, out)), result: JSON.parse(stdout) as { proof?: unknown } };
}

const numExperts = (family: string): number => {
  const json = JSON.parse(readFileSync(join(FOLDERS, family, "config.json"), "utf8")) as Record<
    string,
    number
  >;
  return json.num_local_experts ?? json.num_experts ?? json.n_routed_experts ?? 0;
};

describe.each(readdirSync(FOLDERS))("%s", (family) => {
  const layouts = [1, 2, 4].filter((ranks) => numExperts(family) % ranks === 0);

  it.each(["adaptive", "pipelined(2)", "fixed(2)"])("%s is sequential, byte for byte", (policy) => {
    const { result } = train(family, 2, ["--prove-overlap", "--set", `schedule.policy=${policy}`]);
    expect(result.proof).toMatchObject({ steps: 4, differing: 0 });
  });

  it("any number of ranks has the first step of one", () => {
    const [one, ...others] = layouts.map((ranks) => train(family, ranks, []).rows[0]);
    expect(others.length).toBeGreaterThan(0);
    for (const row of others)
      for (const key of ["loss", "lm_loss", "grad_norm"]) {
        const [found, wanted] = [Number(row[key]), Number(one[key])];
        expect(Math.abs(found - wanted) / wanted, key).toBeLessThan(1e-5);
      }
  });
});
