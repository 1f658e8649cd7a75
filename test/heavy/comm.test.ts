/** The communicators' checks under MPI, messages beyond 2 GiB, and the figures of communication and overlap. */
import { spawnSync } from "node:child_process";
import { totalmem } from "node:os";
import { describe, expect, it } from "vitest";
import type { CommResult } from "../../src/bench/comm.js";
import { CHECKS } from "../../src/comm/checks.js";
import { CLI, HAS_MPI, IS_ROOT, MPI_ENV, temporaryDirectory } from "../helpers.js";

const cwd = temporaryDirectory();
const env = {
  ...MPI_ENV,
  OMPI_MCA_rmaps_base_oversubscribe: "1",
};
const hosts = new URL("../../scripts/hosts.sh", import.meta.url).pathname;
const node = process.execPath;

function run(
  command: string,
  args: readonly string[],
): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: "utf8" });
  return { code: status, stdout, stderr };
}

function bench(words: readonly string[]): CommResult {
  const [command, ...args] = words;
  const { code, stdout, stderr } = run(command, args);
  expect([code, code === 0 ? "" : stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as CommResult;
}

/** Other work on the machine disturbs figures: the best of a few attempts counts. */
function eventually(attempt: () => [number, number], attempts = 4): void {
  let found: [number, number] = [NaN, NaN];
  for (let i = 0; i < attempts; i++) {
    found = attempt();
    if (found[0] <= found[1]) return;
  }
  expect(found[0]).toBeLessThanOrEqual(found[1]);
}

const COMM = [CLI, "bench", "comm", "--json"];
const ONCE = ["--rounds", "1", "--bytes", "4096", "--overlap", "1"];
const mpirun = (ranks: number): string[] => ["mpirun", "--bind-to", "none", "-n", String(ranks), node];

describe.skipIf(!HAS_MPI)("MPI", () => {
  it.each([2, 3, 4, 8])("passes the checks of every communicator on %i ranks", (ranks) => {
    const { kind, checks } = bench([...mpirun(ranks), ...COMM, ...ONCE]);
    expect([kind, checks]).toEqual(["mpi", Object.keys(CHECKS)]);
  });

  it.skipIf(!IS_ROOT)("passes them between hosts, two ranks on each", () => {
    const { checks, ranks } = bench(["env", "RANKS_PER_HOST=2", hosts, "2", "1gbit", node, ...COMM, ...ONCE]);
    expect([ranks, checks]).toEqual([4, Object.keys(CHECKS)]);
  });

  it("launch --run starts ranks on hosts, and rank 0 alone explains bad input", () => {
    const launch = [CLI, "launch", "--hosts", "localhost:2", "--run", "--"];
    const { code, stdout } = run(node, [...launch, "bench", "comm", "--json", ...ONCE]);
    expect([code, (JSON.parse(stdout) as CommResult).ranks]).toEqual([0, 2]);
    const bad = run(node, [...launch, "train", "--set", "model.arch=nope"]);
    expect(bad.code).toBe(2);
    expect(bad.stderr.match(/scmoe: .*nope/g)).toHaveLength(1);
  });

  it.skipIf(totalmem() < 16e9)("moves messages of more than 2 GiB", () => {
    const source = `
      import { joinMpi } from "${new URL("../../dist/comm/mpi/mpi.js", import.meta.url).href}";
      const comm = joinMpi({ deadlineMs: 60_000 });
      const bytes = 2.25 * 2 ** 30, peer = 1 - comm.rank;
      const at = (p) => (p === peer ? bytes : 0);
      const regions = () => ({ buffer: new Uint8Array(new SharedArrayBuffer(bytes)), offsets: [0, 0], bytes: [at(0), at(1)] });
      const send = regions(), recv = regions();
      const step = 2 ** 20 + 4;
      for (let i = 0; i < bytes; i += step) send.buffer[i] = (i / step + comm.rank) & 255;
      const got = comm.exchange({ label: "large", send, recv }).wait().bytes[peer];
      let wrong = 0;
      for (let i = 0; i < bytes; i += step) if (recv.buffer[i] !== ((i / step + peer) & 255)) wrong++;
      comm.close();
      console.log(JSON.stringify({ rank: comm.rank, got, wrong }));`;
    const { code, stdout } = run("mpirun", [
      "--bind-to",
      "none",
      "-n",
      "2",
      node,
      "--input-type=module",
      "-e",
      source,
    ]);
    expect(code).toBe(0);
    for (const rank of [0, 1]) expect(stdout).toContain(`{"rank":${rank},"got":2415919104,"wrong":0}`);
  });
});

describe("figures", () => {
  it.skipIf(!HAS_MPI || !IS_ROOT)(
    "two hosts at 1 Gbit/s: All-to-All of 4 MiB reaches 85 % of the link",
    () => {
      eventually(() => {
        const { allToAll } = bench([hosts, "2", "1gbit", node, ...COMM, "--link", "1gbit", "--overlap", "1"]);
        return [0.85, allToAll.shareOfLink ?? 0];
      });
    },
  );

  it("threads reach half of memcpy's rate", () => {
    eventually(() => [0.5, bench([node, ...COMM, "--bytes", String(64 * 2 ** 20)]).allToAll.shareOfMemcpy]);
  });

  // Two hosts share two cores here: kernels and the kernel's TCP work meet on them. Measured 1.15 to 1.21 × the longer;
  // one after the other is 1.8 ×. `bench comm` is where the figure is read, this holds that there is an overlap.
  it.skipIf(!HAS_MPI || !IS_ROOT)("MPI on two hosts communicates beside kernels", () => {
    eventually(() => {
      const { overlap } = bench([
        hosts,
        "2",
        "400mbit",
        node,
        ...COMM,
        "--link",
        "400mbit",
        "--rounds",
        "20",
      ]);
      return [overlap?.undisturbedRatio ?? NaN, 1.35];
    });
  });

  it("threads with a link model communicate beside kernels", () => {
    eventually(() => {
      const { overlap } = bench([node, ...COMM, "--link", "400mbit,20us", "--rounds", "20"]);
      return [overlap?.undisturbedRatio ?? NaN, 1.15];
    });
  });
});
