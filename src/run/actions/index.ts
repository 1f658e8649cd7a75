import type { Action } from "../context.js";
import { runEmbed, runEmbedBackward } from "./embedding.js";
import { runExperts, runExpertsBackward } from "./experts.js";
import { runRoute, runRouteBackward } from "./gate.js";
import { runKernel, runKernelBackward } from "./kernels.js";
import { runReduce, runStatistics } from "./reduction.js";
import { runDecode, runDecodeBackward, runEncode, runEncodeBackward, runSum } from "./rows.js";
import { runTransfer } from "./transfer.js";

type Plain = (op: Parameters<Action>[0], context: Parameters<Action>[1]) => void;
const compute =
  (run: Plain): Action =>
  (op, context) => {
    run(op, context);
    return undefined;
  };

/** What each operator kind does. Embeddings know the sequence length, which splits T into B × S. */
export function actionTable(sequence: number): Readonly<Record<string, Action>> {
  return {
    embed: compute((op, context) => runEmbed(op, context, sequence)),
    "embed'": compute((op, context) => runEmbedBackward(op, context, sequence)),
    kernel: compute(runKernel),
    "kernel'": compute(runKernelBackward),
    route: compute(runRoute),
    "route'": compute(runRouteBackward),
    encode: compute(runEncode),
    "encode'": compute(runEncodeBackward),
    transfer: runTransfer,
    expert: compute(runExperts),
    "expert'": compute(runExpertsBackward),
    decode: compute(runDecode),
    "decode'": compute(runDecodeBackward),
    sum: compute(runSum),
    statistics: runStatistics,
    reduce: runReduce,
  };
}
