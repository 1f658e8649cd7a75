/** Entry point of a rank's thread. */
import { parentPort, workerData } from "node:worker_threads";
import { singleCommunicator } from "../comm/single.js";
import type { Board } from "../comm/threads/board.js";
import { joinThreads } from "../comm/threads/threads.js";
import type { JobRequest } from "../run/job.js";
import { runRank } from "./rank-main.js";

export interface WorkerData {
  readonly request: JobRequest;
  readonly rank: number;
  /** Undefined for a world of one. */
  readonly board: Board | undefined;
  /** Number of times the user has asked to stop. */
  readonly stop: Int32Array;
}

export type FromWorker =
  | { readonly kind: "say" | "progress"; readonly line: string }
  | { readonly kind: "result"; readonly value: unknown }
  | { readonly kind: "error"; readonly message: string; readonly exitCode?: number; readonly stack?: string };

const { request, rank, board, stop } = workerData as WorkerData;
const world = board === undefined ? singleCommunicator() : joinThreads(board, rank);
const post = (message: FromWorker): void => parentPort?.postMessage(message);

post(await runRank(request, { world, stop, post }));
