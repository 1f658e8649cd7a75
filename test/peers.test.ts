/** What measures this system beside PyTorch, as far as it needs no PyTorch: the joining of results, and bad use. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "./helpers.js";

const PEERS = new URL("../scripts/peers", import.meta.url).pathname;

function table(what: string, files: Readonly<Record<string, readonly object[]>>): string[] {
  const folder = temporaryDirectory();
  for (const [name, values] of Object.entries(files))
    writeFileSync(join(folder, name), values.map((value) => `${JSON.stringify(value)}\n`).join(""));
  const run = spawnSync(process.execPath, [join(PEERS, "table.mjs"), what, folder, "110mbit"], {
    encoding: "utf8",
  });
  expect(run.stderr).toBe("");
  return run.stdout.split("\n");
}

it("joins rounds of both to one row per architecture and mode", () => {
  const about = { torch: "2.15.0", mkl: "its own", ranks: 2, exchange: "pairs" };
  const step = { micro_batches: 4, wire_gradients: "f32" };
  const peer = (arch: string, mode: string, ms: number, waitedMs: number) => ({ arch, mode, ms, waitedMs });
  const ours = (arch: string, mode: string, roundsMs: readonly number[], exposedMs: number) =>
    ({ arch, mode, roundsMs, stepMs: roundsMs[0], exposedMs }) as const;
  const [top2, pos2] = ["top2", "scmoe-pos2"];
  const lines = table("compare", {
    "peer-1.json": [{ ...about, ...step }, peer(top2, "step", 400, 200), peer(pos2, "step", 300, 30)],
    "peer-2.json": [{ ...about, ...step }, peer(pos2, "step", 200, 10), peer(top2, "step", 600, 300)],
    "ours-1.json": [{ rows: [ours(top2, "step", [210], 84), ours(pos2, "step", [100], 1)] }],
    "ours-2.json": [{ rows: [ours(top2, "step", [190], 76), ours(pos2, "step", [150, 125], 6)] }],
  });
  expect(lines.slice(2, 5)).toEqual([
    "| top2 | step | 500 | 50 % | 200 | 40 % | 2.50 | 1.00 |",
    "| scmoe-pos2 | step | 250 | 8 % | 125 | 3 % | 2.00 | 1.60 |",
    "",
  ]);
  expect(lines[5]).toMatch(
    /^Medians of 2 rounds, in turn, 2 hosts, 110mbit; a step has 4 micro-batches, gradients travel as f32; PyTorch's rows by pairs\./,
  );
  expect(lines[5]).toMatch(/PyTorch 2\.15\.0 \(MKL's kernels its own\)/);
});

it("puts a block beside an eager and a compiled one, by width", () => {
  const run = (width: number, forwardMs: number, totalMs: number, gemmGflopPerSecond: number) => ({
    ...{ torch: "2.15.0", mkl: "its own" },
    ...{ width, forwardMs, totalMs, gemmGflopPerSecond },
  });
  const lines = table("block", {
    "eager-1024-1.json": [run(1024, 40, 80, 100)],
    "eager-256-1.json": [run(256, 4, 8, 90)],
    "compiled-1024-1.json": [run(1024, 30, 60, 100)],
    "compiled-256-1.json": [run(256, 3, 6, 90)],
    "ours-1024-1.json": [run(1024, 20, 80, 110)],
    "ours-256-1.json": [run(256, 2, 5, 95)],
  });
  expect(lines.slice(2, 4)).toEqual([
    "| 256 | 4.0 | 3.0 | 2.0 | 2.00 | 1.50 | 8.0 | 6.0 | 5.0 | 1.60 | 1.20 | 90, 95 |",
    "| 1024 | 40.0 | 30.0 | 20.0 | 2.00 | 1.50 | 80.0 | 60.0 | 80.0 | 1.00 | 0.75 | 100, 110 |",
  ]);
});

it.each([
  ["compare.sh", [], 64, "usage: compare.sh RATE [ROUNDS]"],
  ["compare.sh", ["110furlongs"], 64, 'RATE is "110furlongs"; wanted one like 110mbit'],
  ["compare.sh", ["110mbit", "0"], 64, 'ROUNDS is "0"; wanted a number'],
  [
    "compare.sh",
    ["110mbit"],
    69,
    'PYTHON ("false") has no PyTorch; wanted a python with scripts/peers/requirements.txt',
  ],
  ["block.sh", ["many"], 64, "usage: block.sh [TURNS]"],
  [
    "block.sh",
    [],
    69,
    'PYTHON ("false") has no PyTorch; wanted a python with scripts/peers/requirements.txt',
  ],
])("%s %j: exit code %i and a line", (script, args, code, message) => {
  const env = { ...process.env, PYTHON: "false" };
  const run = spawnSync(join(PEERS, script), args, { encoding: "utf8", env });
  expect([run.status, run.stdout, run.stderr]).toEqual([code, "", `${script}: ${message}\n`]);
});
