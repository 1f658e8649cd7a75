/** Learning from a teacher: the loss, layouts of ranks, resuming, what is refused. */
import { cpSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import * as k from "../src/kernel/build.js";
import { differentiate } from "../src/kernel/differentiate.js";
import { head } from "../src/model/parts/head.js";
import { philox } from "../src/core/rng.js";
import { numElements } from "../src/core/tensor.js";
import { trainingNeed } from "../src/train/memory-need.js";
import { openRun } from "../src/train/open-run.js";
import { MINI, metricRows, scmoe, temporaryDirectory } from "./helpers.js";
import { evaluate } from "./reference/evaluate.js";

describe("divergence from a teacher", () => {
  const [T, V, D, temperature] = [3, 5, 4, 2];
  const part = head(
    { norm: { kind: "rms", width: D, eps: 1e-5 }, vocabulary: V },
    { norm: "norm", matrix: "head" },
  );
  const kernel = part.kernel("losses", { temperature });
  const { forward, backward } = differentiate(kernel);
  const normal = (name: string, dims: readonly number[]) => ({
    data: Float64Array.from({ length: numElements(dims) }, (_, i) => philox(3, name).normal(i)),
    dims,
  });
  const given = {
    x: normal("x", [T, D]),
    ln_w: normal("ln_w", [D]),
    head_w: normal("head_w", [V, D]),
    teacher: normal("teacher", [T, V]),
    labels: { data: Float64Array.of(0, 3, 4), dims: [T] },
  };
  const run = (bindings: typeof given) => evaluate(forward, bindings, "f64");

  it("is τ²·KL of the softened distributions", () => {
    const plain = k.kernel("logits", {
      logits: part.kernel("logits").outputs[0].expr,
    });
    const logits = evaluate(plain, given, "f64").logits.data;
    const soft = (row: Float64Array): number[] => {
      const all = [...row].map((z) => Math.exp(z / temperature));
      return all.map((e) => e / all.reduce((a, b) => a + b));
    };
    run(given).divergences.data.forEach((found, t) => {
      const p = soft(given.teacher.data.subarray(t * V, (t + 1) * V));
      const q = soft(Float64Array.from(logits.subarray(t * V, (t + 1) * V)));
      const kl = p.reduce((sum, value, i) => sum + value * Math.log(value / q[i]), 0);
      expect(found).toBeCloseTo(temperature ** 2 * kl, 10);
    });
  });

  it("has the gradient of finite differences, and none at the teacher", () => {
    const saved = run(given);
    const seeds = { d_losses: normal("a", [T]), d_divergences: normal("b", [T]) };
    const buffers = {
      g_ln_w: { data: new Float64Array(D), dims: [D] },
      g_head_w: { data: new Float64Array(V * D), dims: [V, D] },
    };
    const gradients = evaluate(backward, { ...given, ...saved, ...seeds, ...buffers }, "f64");
    const loss = (bindings: typeof given): number => {
      const { losses, divergences } = run(bindings);
      const dot = (a: ArrayLike<number>, b: Float64Array) => b.reduce((sum, v, i) => sum + v * a[i], 0);
      return dot(losses.data, seeds.d_losses.data) + dot(divergences.data, seeds.d_divergences.data);
    };
    for (const [name, of] of [
      ["d_x", "x"],
      ["g_head_w", "head_w"],
      ["g_ln_w", "ln_w"],
    ] as const)
      gradients[name].data.forEach((found, i) => {
        const moved = (by: number) => {
          const data = given[of].data.slice();
          data[i] += by;
          return loss({ ...given, [of]: { ...given[of], data } });
        };
        expect(found).toBeCloseTo((moved(1e-5) - moved(-1e-5)) / 2e-5, 6);
      });
    expect(Object.keys(gradients)).not.toContain("d_teacher");
  });
});

describe("a student", () => {
  const dir = temporaryDirectory();
  const DISTILL = [
    "train.distill.teacher=teacher",
    "train.distill.weight=0.7",
    "train.distill.temperature=2",
  ];
  const sets = (list: readonly string[]): string[] => list.flatMap((set) => ["--set", set]);
  const run = (...args: string[]) => scmoe(["train", "-q", ...args], dir);
  const student = (out: string, ...more: string[]) =>
    run("-o", out, ...MINI, ...sets([...DISTILL, "train.seed=2"]), ...more);
  const rows = (out: string) =>
    metricRows(join(dir, out)).map(({ step, loss, lm_loss, distill_loss, validation_loss }) => ({
      step: step as number,
      loss: loss as number,
      lm_loss: lm_loss as number,
      distill_loss: distill_loss as number,
      validation_loss,
    }));

  beforeAll(() => {
    expect(
      run("-o", "teacher", ...MINI, ...sets(["model.arch=top2", "train.learning_rate=0.01"])).stderr,
    ).toBe("");
    expect(student("one", "--set", "train.checkpoint_interval=3").stderr).toBe("");
  });

  it("has both losses in its metrics and their mixture as its loss; evaluation counts cross-entropy", () => {
    for (const { loss, lm_loss, distill_loss } of rows("one")) {
      expect(distill_loss).toBeGreaterThan(0);
      // Beside them only the balance loss, at 0.01.
      expect(loss - (0.3 * lm_loss + 0.7 * distill_loss)).toBeCloseTo(0.01, 2);
    }
    const evaluated = scmoe(["eval", "one", "--batches", "1", "--json"], dir);
    const { loss } = JSON.parse(evaluated.stdout) as { loss: number };
    expect(loss).toBeCloseTo(rows("one").at(-1)?.validation_loss as number, 5);
  });

  it("learns nothing from itself", () => {
    expect(
      run(
        "-o",
        "itself",
        "--from",
        "teacher",
        ...sets(["train.distill.teacher=teacher", "train.steps=1", "train.batch_size=8"]),
      ).stderr,
    ).toBe("");
    expect(Math.abs(rows("itself")[0].distill_loss)).toBeLessThan(1e-6);
  });

  it.each([
    ["2 ranks", ["-n", "2"]],
    [
      "2 ranks, experts on each, micro-batches",
      ["-n", "2", ...sets(["parallel.expert_parallel=1", "train.micro_batch_size=2"])],
    ],
  ])("on %s it is the student on one", (name, more) => {
    expect(student(name, ...more).stderr).toBe("");
    rows(name).forEach(({ loss, distill_loss }, i) => {
      expect(Math.abs(loss / rows("one")[i].loss - 1)).toBeLessThan(1e-5);
      expect(Math.abs(distill_loss / rows("one")[i].distill_loss - 1)).toBeLessThan(1e-4);
    });
  });

  it("is proven to be the same overlapped", () => {
    expect(student("proof", "-n", "2", "--prove-overlap", "--set", "train.steps=2").stdout).toMatch(
      /differ in 0 of/,
    );
  });

  it("resumes bit for bit, wherever its teacher lies by then, unless that is another", () => {
    cpSync(join(dir, "one"), join(dir, "parts"), { recursive: true });
    const at = ["--resume", "parts/checkpoints/step-00000003"];
    renameSync(join(dir, "teacher"), join(dir, "moved"));
    const gone = run(...at);
    expect(gone).toMatchObject({ code: 2 });
    expect(gone.stderr).toMatch(/^scmoe: teacher holds no checkpoint.*\n$/);
    expect(run(...at, "--set", "train.distill.teacher=one").stderr).toMatch(
      /would go on as another run: weights of train\.distill\.teacher "[0-9a-f]{8}" → "[0-9a-f]{8}"/,
    );
    expect(run(...at, "--set", "train.distill.teacher=moved").stderr).toBe("");
    expect(rows("parts")).toEqual(rows("one"));
    cpSync(join(dir, "moved"), join(dir, "teacher"), { recursive: true });
    const file = (out: string) => readFileSync(join(dir, out, "checkpoints/step-00000006/model.safetensors"));
    expect(file("parts").equals(file("one"))).toBe(true);
  });

  it.each([
    ["a missing teacher", "train.distill.teacher=nowhere", /nowhere holds no checkpoint/],
    [
      "another vocabulary",
      "model.vocab_size=290",
      /teacher: its vocab_size is 300, the student's 290; both must/,
    ],
    [
      "too few positions",
      "model.max_position_embeddings=64",
      /max_position_embeddings 32 is below data\.sequence_length 64/,
    ],
    ["a weight above 1", "train.distill.weight=1.5", /train\.distill\.weight/],
    ["an unknown key", "train.distill.wieght=1", /wieght/],
  ])("%s is refused before anything is written", (_name, set, message) => {
    const mini = MINI.filter((word) => word !== "--set");
    const teacher = `train.distill.teacher=${join(dir, "teacher")}`;
    expect(() => {
      const { config } = openRun({ sets: [...mini, teacher, set] });
      trainingNeed(config, { ranks: 1, inProcess: 1 });
    }).toThrow(message);
  });

  it("another tokenizer is refused", () => {
    expect(scmoe(["tokenizer", "train", "--vocab-size", "280", "-o", "other.json"], dir).code).toBe(0);
    const { code, stderr } = student("refused", "--set", "data.tokenizer=other.json");
    expect(code).toBe(2);
    expect(stderr).toMatch(/another tokenizer than the run's; set data\.tokenizer=\S+tokenizer\.json\n$/);
  });
});
