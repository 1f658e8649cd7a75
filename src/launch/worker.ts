/**
 * Entry point of a rank's thread: finds the job and runs this rank's part of it. Whatever happens becomes a message, and
 * the other ranks hear of a failure.
 */
import { parentPort, workerData } from "node:worker_threads";
import { gatherJson } from "../comm/collectives.js";
import type { Communicator } from "../comm/communicator.js";
import { joinMpi } from "../comm/mpi/mpi.js";
import { singleCommunicator } from "../comm/single.js";
import { writeText } from "../comm/threads/board.js";
import { joinThreads } from "../comm/threads/threads.js";
import { openInbox } from "./inbox.js";
import type { JobContext } from "./job.js";
import { thisProcess } from "../storage/process-identity.js";
import { type FromWorker, type WorkerData, failureOf } from "./messages.js";
import { importJob } from "./module.js";

const data = workerData as WorkerData;
const post = (message: FromWorker): void => parentPort?.postMessage(message);
let world: Communicator | undefined;
try {
  world = join();
  if (data.mpi !== undefined) post({ kind: "ranks", ranks: gatherJson(world, thisProcess(), "start-up") });
  const job = await importJob(data.job);
  post({ kind: "result", value: await job.run(contextOf(world), data.options) });
} catch (thrown) {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  world?.abort(error.message);
  post(failureOf(error));
} finally {
  world?.close();
}

function contextOf(world: Communicator): JobContext {
  const emit: JobContext["emit"] = (event) => post({ kind: "event", event });
  return {
    world,
    interrupted: () => Atomics.load(data.stop, 0) > 0,
    completed: (step) => void Atomics.store(data.step, 0, step),
    emit,
    inbox: data.inbox === undefined ? undefined : openInbox(data.inbox),
    say: (line) => emit({ kind: "message", line }),
    progress: (line) => emit({ kind: "progress", line }),
  };
}

function join(): Communicator {
  const { mpi, board, rank } = data;
  if (mpi !== undefined)
    return joinMpi({ deadlineMs: mpi.deadlineMs, onOperator: (label) => writeText(mpi.label, label) });
  return board === undefined ? singleCommunicator() : joinThreads(board, rank);
}
