/** Code run on ranks that are threads, each a worker of its own. */
import { Worker } from "node:worker_threads";
import { parseLink } from "../src/comm/link.js";
import { createBoard } from "../src/comm/threads/board.js";

const threads = new URL("../dist/comm/threads/threads.js", import.meta.url).href;
const checks = new URL("../dist/comm/checks.js", import.meta.url).href;
const collectives = new URL("../dist/comm/collectives.js", import.meta.url).href;
const waiting = new URL("../dist/comm/wait-any.js", import.meta.url).href;
const clock = new URL("../dist/core/clock.js", import.meta.url).href;

/** Runs `body` on every rank; it may use comm, c (the collectives), waitAny, runChecks, nowMs, shared(bytes). Returns what each rank returned. */
export async function onRanks<T>(
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
      const { waitAny } = await import("${waiting}");
      const { runChecks } = await import("${checks}");
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
export const RAGGED = `
  const unit = 4, n = comm.size, r = comm.rank;
  const sendBytes = Array.from({ length: n }, (_, p) => (r + p + 1) * unit);
  const recvMax = Array.from({ length: n }, () => 2 * n * unit);
  const offsets = (sizes) => sizes.map((_, i) => sizes.slice(0, i).reduce((a, b) => a + b, 0));
  const send = shared(sendBytes.reduce((a, b) => a + b, 0)), recv = shared(recvMax.reduce((a, b) => a + b, 0));
  offsets(sendBytes).forEach((o, p) => send.fill(r * 16 + p, o, o + sendBytes[p]));
  const request = (label) => ({ label, send: { buffer: send, offsets: offsets(sendBytes), bytes: sendBytes }, recv: { buffer: recv, offsets: offsets(recvMax), bytes: recvMax } });
`;
