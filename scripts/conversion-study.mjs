/**
 * What conversion costs in quality: node scripts/conversion-study.mjs --out runs/study [--preset small] [--steps 2000]
 * [--seeds 0,1,2] [--further 0.2] [--only top2|dense] [--ranks 1] [--set key=value ...]
 *
 * Per seed: top-2 trained N steps; that one trained further; converted to ScMoE Pos-2 and trained as many steps further; ScMoE
 * Pos-2 from scratch for all of the steps. The same with a dense model that is upcycled. Prints a table of losses over the whole
 * held-out text. Whatever is done already is not done again; what was interrupted is resumed.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { convert, evaluate, train } from "../dist/index.js";

const TARGET = "scmoe-pos2";
const ALL = 1e9;

const { values: flags } = parseArgs({
  options: {
    out: { type: "string", default: "runs/conversion-study" },
    preset: { type: "string", default: "small" },
    steps: { type: "string", default: "2000" },
    seeds: { type: "string", default: "0,1,2" },
    further: { type: "string", default: "0.2" },
    only: { type: "string" },
    ranks: { type: "string", default: "1" },
    set: { type: "string", multiple: true, default: [] },
    json: { type: "boolean", default: false },
  },
});
const steps = Number(flags.steps);
const further = Math.round(steps * Number(flags.further));
const ranks = Number(flags.ranks);

/** By source: what its rows are called. */
const SOURCES = {
  top2: ["top-2", "top-2, further", `converted to ${TARGET}`, `${TARGET} from scratch`],
  dense: ["dense", "dense, further", `upcycled to ${TARGET}`, undefined],
};

const controller = new AbortController();
process.once("SIGINT", () => controller.abort());

const results = [];
for (const seed of flags.seeds.split(",").map(Number))
  for (const arch of Object.keys(SOURCES).filter((name) => flags.only === undefined || flags.only === name))
    results.push(await study(arch, seed));
print(results);

async function study(arch, seed) {
  const at = (name) => join(flags.out, `seed-${seed}`, name);
  const config = (model, count) => ({
    model: { preset: flags.preset, arch: model },
    train: { steps: count, seed },
  });
  const source = at(arch);
  const other = at(`${arch}-${TARGET}`);
  const losses = {};
  losses.source = await once(source, () =>
    train({ config: config(arch, steps), sets: flags.set, directory: source, ...how(source) }),
  );
  losses.converted = await once(other, () =>
    convert({ source, to: TARGET, out: other, seed, trainSteps: further, ...how(other) }),
  );
  // As the converted one, without a teacher: the source is its own.
  const { distill: _teacher, ...same } = JSON.parse(readFileSync(join(other, "run.json"), "utf8")).config
    .train;
  const more = at(`${arch}-further`);
  losses.further = await once(more, () =>
    train({ from: source, config: { train: same }, directory: more, ...how(more) }),
  );
  losses.start = await lossOf(join(other, "converted"), at(`${arch}-converted.json`));
  if (SOURCES[arch][3] !== undefined) {
    const scratch = at(TARGET);
    losses.scratch = await once(scratch, () =>
      train({
        config: config(TARGET, steps + further),
        sets: flags.set,
        directory: scratch,
        ...how(scratch),
      }),
    );
  }
  return { arch, seed, ...losses };
}

function how(label) {
  const onEvent = (event) => {
    if (event.kind === "step" && event.step % 100 === 0)
      process.stderr.write(`${label} ${event.step}/${event.steps} loss ${event.loss.toFixed(3)}\n`);
  };
  return { ranks, signal: controller.signal, onEvent };
}

/** Runs, or resumes, what is not done; its loss. */
async function once(directory, run) {
  const done = `${directory}.json`;
  if (!existsSync(done)) {
    if (existsSync(join(directory, "checkpoints", "latest")))
      await finish(train({ resume: directory, ...how(directory) }));
    else {
      rmSync(directory, { recursive: true, force: true });
      await finish(run());
    }
  }
  return lossOf(directory, done);
}

async function finish(run) {
  const result = await run;
  if (!(result.trained ?? result).interrupted) return;
  process.stderr.write("Interrupted: the same command goes on\n");
  process.exit(130);
}

async function lossOf(model, file) {
  if (!existsSync(file)) {
    const { loss } = await evaluate({ model, batches: ALL, ranks });
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, `${JSON.stringify({ loss })}\n`);
  }
  return JSON.parse(readFileSync(file, "utf8")).loss;
}

function print(all) {
  if (flags.json) return console.log(JSON.stringify(all, undefined, 2));
  console.log(`preset ${flags.preset}, ${steps} steps and ${further} further, seeds ${flags.seeds}\n`);
  console.log(
    "| model | validation loss, mean (by seed) | against the source trained further |\n| --- | --- | --- |",
  );
  for (const arch of Object.keys(SOURCES)) {
    const rows = all.filter((result) => result.arch === arch);
    if (rows.length === 0) continue;
    const [source, more, converted, scratch] = SOURCES[arch];
    const named = {
      source,
      further: more,
      start: `${converted}, not trained`,
      converted: `${converted}, further`,
      scratch,
    };
    for (const [key, name] of Object.entries(named)) {
      if (name === undefined) continue;
      const losses = rows.map((row) => row[key]);
      const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
      const change = mean(rows.map((row) => row[key] / row.further - 1)) * 100;
      const by = losses.map((loss) => loss.toFixed(4)).join(", ");
      console.log(
        `| ${name} | ${mean(losses).toFixed(4)} (${by}) | ${change > 0 ? "+" : ""}${change.toFixed(2)} % |`,
      );
    }
  }
}
