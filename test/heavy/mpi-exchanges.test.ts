/** Exchanges over MPI itself, on two ranks of a test's own: late exchanges, threads that end, many communicators. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HAS_MPI, MPIRUN, MPI_ENV, temporaryDirectory } from "../helpers.js";

const dir = temporaryDirectory();

/**
 * Runs `body` on two ranks of their own; it may use joinMpi, r, shared, regions, until, told (a file), file(rank), gc.
 * @returns what each rank returned; of one that crashed, what was printed
 */
function onTwoRanks(body: string): unknown[] {
  const folder = mkdtempSync(join(dir, "ranks-"));
  const prelude = `
    import { existsSync, writeFileSync, renameSync } from "node:fs";
    import { setTimeout as sleep } from "node:timers/promises";
    import { joinMpi } from "${new URL("../../dist/comm/mpi/mpi.js", import.meta.url).href}";
    const r = Number(process.env.OMPI_COMM_WORLD_RANK);
    const shared = (bytes) => new Uint8Array(new SharedArrayBuffer(bytes));
    const regions = (bytes, fill) => ({ buffer: shared(bytes).fill(fill), offsets: [0, bytes / 2], bytes: [bytes / 2, bytes / 2] });
    const until = async (condition) => { while (!condition()) await sleep(5); };
    const told = "${join(folder, "told")}", file = (rank) => "${folder}/" + rank + ".json";
  `;
  // Ranks end together: mpirun ends the others when one has left.
  const source = `${prelude}
    const prelude = ${JSON.stringify(prelude)};
    const result = await (async () => { ${body} })();
    writeFileSync(file(r) + ".tmp", JSON.stringify(result));
    renameSync(file(r) + ".tmp", file(r));
    await until(() => existsSync(file(1 - r)));
    process.exit(0);`;
  const node = [process.execPath, "--expose-gc", "--input-type=module", "-e", source];
  const { stdout, stderr } = spawnSync(MPIRUN[0], [...MPIRUN.slice(1), "-n", "2", ...node], {
    cwd: dir,
    env: MPI_ENV,
    encoding: "utf8",
    timeout: 60_000,
  });
  return [0, 1].map((rank) => {
    const name = join(folder, `${rank}.json`);
    return existsSync(name) ? (JSON.parse(readFileSync(name, "utf8")) as unknown) : stdout + stderr;
  });
}

describe.skipIf(!HAS_MPI)("exchanges over MPI", () => {
  it("keeps the memory of exchanges that were late until all has gone there, and no longer", () => {
    // Rank 0 gives up waiting, forgets the exchanges and collects garbage; only then rank 1 posts them.
    const results = onTwoRanks(
      `const comm = joinMpi({ deadlineMs: 20_000 });
       const buffers = [];
       const late = (i) => {
         const recv = regions(32 << 20, 0);
         buffers.push(new WeakRef(recv.buffer));
         return comm.exchange({ label: "late " + i, send: regions(32 << 20, 1 + r), recv });
       };
       const after = () => comm.exchange({ label: "after", send: regions(8, r), recv: regions(8, 0) }).wait();
       const collect = async () => { for (let i = 0; i < 4; i++) { gc(); await sleep(20); } };
       if (r === 1) {
         await until(() => existsSync(told));
         const handles = [late(0), late(1)];
         const got = handles.map((handle) => handle.wait().bytes[0]);
         after(); after(); after();
         return got;
       }
       const errors = [0, 1].map((i) => { try { late(i).wait(50); } catch (error) { return error.message; } });
       await collect();
       const others = Array.from({ length: 4 }, () => shared(32 << 20).fill(255));
       writeFileSync(told, "");
       after();
       const isIntact = others.every((other) => other.every((byte) => byte === 255));
       after(); after();
       await collect();
       return [errors, isIntact, buffers.filter((buffer) => buffer.deref() !== undefined).length];`,
    );
    const message = (i: number): unknown =>
      expect.stringMatching(new RegExp(`^late ${i}: no answer from rank 1 .* within 0.05 s$`));
    expect(results).toEqual([
      [[message(0), message(1)], true, 0],
      [16 << 20, 16 << 20],
    ]);
  });

  it("a rank's thread may end while messages are under way: nothing is written into what was its memory", () => {
    const results = onTwoRanks(
      `const { Worker } = await import("node:worker_threads");
       const post = \`comm.exchange({ label: "left", send: regions(32 << 20, 1), recv: regions(32 << 20, 0) })\`;
       if (r === 1) {
         const comm = joinMpi({ deadlineMs: 500 });
         await until(() => existsSync(told));
         try { eval(post).wait(); } catch (error) { return error.message; }
       }
       const code = prelude + \`const comm = joinMpi({ deadlineMs: 20_000 }); \${post}; comm.abort("enough"); comm.close();\`;
       const worker = new Worker(new URL("data:text/javascript," + encodeURIComponent(code)), { execArgv: [] });
       await new Promise((resolve) => worker.on("exit", resolve));
       writeFileSync(told, "");
       await until(() => existsSync(file(1)));
       return "alive";`,
    );
    expect(results).toEqual(["alive", expect.stringMatching(/^left: no answer from rank 0/)]);
  });

  it("a deadline may be infinite", () => {
    const results = onTwoRanks(
      `const comm = joinMpi({ deadlineMs: Infinity });
       if (r === 1) await sleep(200);
       const { bytes } = comm.exchange({ label: "patient", send: regions(8, r), recv: regions(8, 0) }).wait();
       comm.close();
       return bytes;`,
    );
    expect(results).toEqual([
      [4, 4],
      [4, 4],
    ]);
  });

  it("keeps hundreds of communicators apart", () => {
    const results = onTwoRanks(
      `const comm = joinMpi({ deadlineMs: 20_000 });
       // Each rank begins with another one.
       const groups = [comm, ...Array.from({ length: 300 }, () => comm.split(() => 0))];
       const order = r === 0 ? groups : groups.toReversed();
       const handles = order.map((group) => group.exchange({ label: "group", send: regions(8, r), recv: regions(8, 0), notes: new Int32Array(2).fill(2 * groups.indexOf(group) + r) }));
       return handles.map((handle) => handle.wait().notes[1 - r]).filter((note, i) => note !== 2 * groups.indexOf(order[i]) + 1 - r);`,
    );
    expect(results).toEqual([[], []]);
  });
});
