/** Entry point of a rank's thread. */
import { parentPort, workerData } from "node:worker_threads";
import type { Communicator } from "../comm/communicator.js";
import { joinMpi } from "../comm/mpi/mpi.js";
import { singleCommunicator } from "../comm/single.js";
import type { Board } from "../comm/threads/board.js";
import { joinThreads } from "../comm/threads/threads.js";
import type { JobRequest } from "../run/job.js";
import { runRank } from "./rank-main.js";

export interface WorkerData {
  readonly request: JobRequest;
  readonly rank: number;
  /** Ranks as threads. */
  readonly board: Board | undefined;
  /** A rank of an MPI job; `label` receives the operator it is in. */
  readonly mpi?: { readonly deadlineMs: number; readonly label: Uint8Array };
  /** Number of times the user has asked to stop. */
  readonly stop: Int32Array;
}

export type FromWorker =
  | { readonly kind: "say" | "progress"; readonly line: string }
  | { readonly kind: "result"; readonly value: unknown }
  | {
      readonly kind: "error";
      readonly message: string;
      readonly exitCode?: number;
      readonly stack?: string;
      /** It is about a peer, so a peer's own error says more. */
      readonly aboutPeer: boolean;
    };

const data = workerData as WorkerData;
const post = (message: FromWorker): void => parentPort?.postMessage(message);
post(await runRank(data.request, { join, stop: data.stop, post }));

function join(): Communicator {
  const { mpi, board, rank } = data;
  if (mpi !== undefined)
    return joinMpi({ deadlineMs: mpi.deadlineMs, onOperator: (label) => writeLabel(mpi.label, label) });
  return board === undefined ? singleCommunicator() : joinThreads(board, rank);
}

function writeLabel(target: Uint8Array, label: string): void {
  const bytes = Buffer.from(label).subarray(0, target.length);
  target.fill(0);
  target.set(bytes);
}
