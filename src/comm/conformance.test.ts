/** One suite for every communicator that runs in one process: ranks are worker threads; MPI has its own in test/heavy. */
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { parseLink } from "./link.js";
import { createBoard } from "./threads/board.js";

const threads = new URL("../../dist/comm/threads/threads.js", import.meta.url).href;
const collectives = new URL("../../dist/comm/collectives.js", import.meta.url).href;
const clock = new URL("../../dist/core/clock.js", import.meta.url).href;

/** Runs `body` on every rank; it may use comm, c (the collectives), nowMs, shared(bytes). Returns what each rank returned. */
async function onRanks<T>(
  size: number,
  body: string,
  options: { link?: string; deadlineMs?: number } = {},
): Promise<(T | { error: string })[]> {
  const link = options.link === undefined ? undefined : parseLink(options.link);
  const board = createBoard({ size, link, deadlineMs: options.deadlineMs ?? 10_000 });
  const source = `
    const { parentPort, workerData } = require("node:worker_threads");
    (async () => {
      const { joinThreads } = await import("${threads}");
      const c = await import("${collectives}");
      const { nowMs } = await import("${clock}");
      const shared = (bytes) => new Uint8Array(new SharedArrayBuffer(bytes));
      const comm = joinThreads(workerData.board, workerData.rank);
      try { parentPort.postMessage(await (async () => { ${body} })()); }
      catch (error) { parentPort.postMessage({ error: error.message }); }
    })();`;
  return Promise.all(
    Array.from(
      { length: size },
      (_, rank) =>
        new Promise<T | { error: string }>((resolve, reject) => {
          const worker = new Worker(source, { eval: true, workerData: { board, rank } });
          worker.on("message", resolve);
          worker.on("error", reject);
        }),
    ),
  );
}

/** Rank r sends r + p + 1 units to rank p, each byte r · 16 + p. */
const RAGGED = `
  const unit = 4, n = comm.size, r = comm.rank;
  const sendBytes = Array.from({ length: n }, (_, p) => (r + p + 1) * unit);
  const recvMax = Array.from({ length: n }, () => 2 * n * unit);
  const offsets = (sizes) => sizes.map((_, i) => sizes.slice(0, i).reduce((a, b) => a + b, 0));
  const send = shared(sendBytes.reduce((a, b) => a + b, 0)), recv = shared(recvMax.reduce((a, b) => a + b, 0));
  offsets(sendBytes).forEach((o, p) => send.fill(r * 16 + p, o, o + sendBytes[p]));
  const request = (label) => ({ label, send: { buffer: send, offsets: offsets(sendBytes), bytes: sendBytes }, recv: { buffer: recv, offsets: offsets(recvMax), bytes: recvMax } });
`;

describe.each([1, 2, 3, 8])("threads, %i ranks", (size) => {
  it("exchanges ragged rows and reports their sizes", async () => {
    const results = await onRanks<{ bytes: number[]; first: number[] }>(
      size,
      `${RAGGED} const { bytes } = comm.exchange(request("x")).wait(); return { bytes, first: offsets(recvMax).map((o) => recv[o]) };`,
    );
    results.forEach((result, rank) =>
      expect(result).toEqual({
        bytes: Array.from({ length: size }, (_, p) => (p + rank + 1) * 4),
        first: Array.from({ length: size }, (_, p) => p * 16 + rank),
      }),
    );
  });

  it("keeps many exchanges apart, whoever is late", async () => {
    const results = await onRanks<number>(
      size,
      `${RAGGED} let sum = 0;
       for (let i = 0; i < 200; i++) { if ((i + r) % 7 === 0) await new Promise((d) => setTimeout(d, 1)); const a = comm.exchange(request("a" + i)); const b = comm.exchange(request("b" + i)); a.wait(); sum += b.wait().bytes.length; }
       return sum;`,
    );
    expect(results).toEqual(Array.from({ length: size }, () => 200 * size));
  });

  it("adds in rank order, so that all ranks have the same bits", async () => {
    const results = await onRanks<string>(
      size,
      `const a = new Float32Array(new SharedArrayBuffer(4 * 1001)); for (let i = 0; i < a.length; i++) a[i] = Math.sin(i * (comm.rank + 1)) * 10 ** (comm.rank - 3);
       c.allReduceSum(comm, a, "sum"); return Buffer.from(new Uint8Array(a.buffer)).toString("hex");`,
    );
    const expected = Float32Array.from({ length: 1001 }, (_, i) => {
      let sum = 0;
      for (let r = 0; r < size; r++) {
        const term = Math.fround(Math.sin(i * (r + 1)) * 10 ** (r - 3));
        sum = r === 0 ? term : Math.fround(sum + term);
      }
      return sum;
    });
    for (const result of results) expect(result).toBe(Buffer.from(expected.buffer).toString("hex"));
  });

  it("splits by colour", async () => {
    const results = await onRanks<{ rank: number; size: number; sum: number[] }>(
      size,
      `const half = comm.split(comm.rank % 2, "halves"); return { rank: half.rank, size: half.size, sum: c.sumScalars(half, [comm.rank], "s") };`,
    );
    results.forEach((result, rank) => {
      const members = Array.from({ length: size }, (_, r) => r).filter((r) => r % 2 === rank % 2);
      const sum = members.reduce((a, b) => a + b, 0);
      expect(result).toEqual({ rank: members.indexOf(rank), size: members.length, sum: [sum] });
    });
  });
});

describe("trouble", () => {
  it("names the late rank, where it was last seen, and the operator of this one", async () => {
    const results = await onRanks<string>(
      2,
      `${RAGGED} comm.exchange(request("L0.dispatch")).wait(); if (r === 1) return "late"; comm.exchange(request("L1.dispatch")).wait(); return "?";`,
      { deadlineMs: 200 },
    );
    expect(results).toEqual([
      {
        error: expect.stringMatching(
          /^L1\.dispatch: no answer from rank 1 \(last seen in L0\.dispatch\) within 0\.2 s/,
        ),
      },
      "late",
    ]);
  });

  it("ends all waits when a rank gives up", async () => {
    const results = await onRanks<string>(
      3,
      `${RAGGED} if (r === 2) { comm.abort("rank 2 broke down"); return "gave up"; } comm.exchange(request("L1.combine")).wait(); return "?";`,
    );
    const told = { error: expect.stringContaining("rank 2 broke down") };
    expect(results).toEqual([told, told, "gave up"]);
  });

  it("refuses different operators and rows that do not fit", async () => {
    const different = await onRanks<string>(
      2,
      `${RAGGED} comm.exchange(request("op" + r)).wait(); return "?";`,
    );
    expect(different[0]).toEqual({ error: expect.stringMatching(/different operators: op\d and op\d/) });
    const large = await onRanks<string>(
      2,
      `${RAGGED} if (r === 0) recvMax.fill(4); comm.exchange(request("x")).wait(); return "?";`,
    );
    expect(large[0]).toEqual({
      error: expect.stringMatching(/rank 1 sends 8 bytes to rank 0, which expects at most 4/),
    });
  });
});

it("a link delays delivery without keeping the processor or the sender busy", async () => {
  // 4 units of 64 KiB at 100 Mbit/s: 5.24 ms each, one after the other on the port.
  const results = await onRanks<{ posted: number; total: number; cpu: number }>(
    2,
    `const bytes = 65536, send = shared(2 * bytes), recv = shared(2 * bytes), peer = 1 - comm.rank;
     const slots = (buffer) => ({ buffer, offsets: [0, bytes], bytes: [0, 1].map((p) => (p === peer ? bytes : 0)) });
     c.barrier(comm, "start");
     const t0 = nowMs(), handles = [];
     for (let i = 0; i < 4; i++) handles.push(comm.exchange({ label: "x" + i, send: slots(send), recv: slots(recv) }));
     const posted = nowMs() - t0; const before = process.cpuUsage();
     for (const h of handles) h.wait();
     const { user, system } = process.cpuUsage(before);
     return { posted, total: nowMs() - t0, cpu: (user + system) / 1e3 };`,
    { link: "100mbit,1ms" },
  );
  for (const result of results) {
    expect("error" in result).toBe(false);
    const { posted, total } = result as { posted: number; total: number };
    expect(total).toBeGreaterThanOrEqual(4 * 5.24 + 1);
    expect(posted).toBeLessThan(total / 2);
  }
});

it("reads links, and refuses what is none", () => {
  expect(parseLink("10gbit,20us")).toEqual({ bytesPerMs: 1.25e6, latencyMs: 0.02 });
  expect(parseLink("400mbit")).toEqual({ bytesPerMs: 5e4, latencyMs: 0 });
  for (const text of ["", "fast", "0gbit", "1gbit,2", "1gbit,2us,3"])
    expect(() => parseLink(text)).toThrow(/10gbit,20us/);
});
