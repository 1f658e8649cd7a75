/** bench compare: every architecture under every policy in one table, as threads and under mpirun. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { CompareResult } from "../../src/bench/compare.js";
import { ARCHITECTURE_NAMES } from "../../src/model/architectures.js";
import { CLI, HAS_MPI, scmoe, temporaryDirectory } from "../helpers.js";

const dir = temporaryDirectory();
const SMALL =
  "bench compare --width 64 --pairs 2 --vocab 256 --sequence 32 --batch 2 --rounds 1 --experts 4 --micro-batches 2".split(
    " ",
  );
const POLICIES = ["sequential", "pipelined(2)", "fixed(2)", "adaptive", "adaptive(2)"];

function check({ rows }: CompareResult, archs: readonly string[], modes: readonly string[]): void {
  const wanted = modes.flatMap((mode) =>
    archs.flatMap((arch) => POLICIES.map((policy) => `${mode} ${arch} ${policy}`)),
  );
  expect(rows.map((row) => `${row.mode} ${row.arch} ${row.policy}`)).toEqual(wanted);
  for (const row of rows) {
    expect(row.stepMs).toBeGreaterThan(0);
    expect(row.roundsMs.length).toBe(1);
    expect(row.computeMs).toBeGreaterThan(0);
    expect(row.predictedMs).toBeGreaterThanOrEqual(row.lowerBoundMs * 0.999);
    expect(row.communicationMs > 0).toBe(row.arch !== "dense" || row.mode === "step");
    expect(row.reductionMs !== undefined).toBe(row.mode === "step");
    const baseline = rows.find((r) => r.mode === row.mode && r.arch === "top2" && r.policy === "sequential");
    expect(row.speedUp["top-2 sequential"]).toBeCloseTo((baseline?.stepMs ?? NaN) / row.stepMs);
    expect(row.speedUp["top-2 pipelined"]).toBeGreaterThan(0);
  }
}

it("as threads with a link model", () => {
  const modes = ["forward", "train", "step"];
  const ran = scmoe(
    [
      ...SMALL,
      "--archs",
      "all",
      "--policies",
      POLICIES.join(" "),
      "--modes",
      modes.join(),
      "--link",
      "1gbit,20us",
      "--json",
    ],
    dir,
  );
  expect(ran.code).toBe(0);
  const result = JSON.parse(ran.stdout) as CompareResult;
  expect(result.link).toEqual({ bytesPerMs: 125_000, latencyMs: 0.02 });
  expect(result.ranks).toBe(2);
  check(result, ARCHITECTURE_NAMES, modes);
});

it.skipIf(!HAS_MPI)("under mpirun", () => {
  const archs = ["top2", "scmoe-pos2"];
  const command = [
    ...SMALL,
    "--archs",
    archs.join(" "),
    "--policies",
    POLICIES.join(" "),
    "--modes",
    "train",
  ];
  const { status, stdout } = spawnSync(
    "mpirun",
    [
      "-n",
      "2",
      "--bind-to",
      "none",
      "--allow-run-as-root",
      "--oversubscribe",
      process.execPath,
      CLI,
      ...command,
      "--json",
    ],
    { cwd: dir, encoding: "utf8" },
  );
  expect(status).toBe(0);
  check(JSON.parse(stdout) as CompareResult, archs, ["train"]);
});

it("as Markdown, with a chart and timelines beside it", () => {
  const ran = scmoe(
    [...SMALL, "--archs", "top2 shared", "--modes", "forward", "--markdown", "-o", "out"],
    dir,
  );
  expect(ran.code).toBe(0);
  const lines = ran.stdout.split("\n");
  expect(lines[0]).toMatch(/^\| mode \| architecture \|/);
  expect(lines[1]).toMatch(/^(\| --- )+\|$/);
  expect(lines[2]).toMatch(/^\| forward \| top2 \| sequential \|/);
  const chart = readFileSync(join(dir, "out", "chart.svg"), "utf8");
  expect(chart.match(/<rect class="work" x=/g)).toHaveLength(4);
  for (const file of ["timeline.html", "timeline.json"])
    expect(existsSync(join(dir, "out", file))).toBe(true);
});
