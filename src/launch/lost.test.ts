/** Who is missed when a launcher ends a job, and which rank says so. */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { thisProcess } from "../storage/process-identity.js";
import { endedRanks, lossLine } from "./lost.js";

const ranks = ["a", "a", "b"].map((host, pid) => ({ host, pid }));
const known = { ranks, operator: "L3.dispatch", step: 41, ended: [], silent: [] };
const lines = (facts: object) => [0, 1, 2].map((rank) => lossLine({ ...known, rank, ...facts }));

describe("the line of a loss", () => {
  it("names rank, host, operator and step, and is said once", () => {
    expect(lines({ ended: [1] })).toEqual([
      "rank 0: lost rank 1 (host a), whose process has ended, while in L3.dispatch; last completed step 41",
      undefined,
      undefined,
    ]);
    expect(lines({ ended: [0] })[1]).toMatch(/^rank 1: lost rank 0 \(host a\)/);
  });

  it("names who has not answered on other hosts, of which no more can be known", () => {
    const why =
      "rank 0: ended by the launcher, with no answer from rank 2 (host b) in L3.dispatch; last completed step 41";
    expect(lossLine({ ...known, rank: 0, silent: [1, 2] })).toBe(why);
    expect(lossLine({ ...known, rank: 0, silent: [1], step: 0 })).toBe(
      "rank 0: ended by the launcher while in L3.dispatch",
    );
  });
});

it("knows of processes on this host whether they have ended", () => {
  const { pid } = spawnSync(process.execPath, ["--version"]);
  const here = thisProcess();
  expect(endedRanks([here, { ...here, pid }, { ...here, pid, machine: "elsewhere" }])).toEqual([1]);
});
