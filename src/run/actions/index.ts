import type { ActionTable } from "../context.js";
import { bindEmbed, bindEmbedBackward } from "./embedding.js";
import { bindExperts, bindExpertsBackward } from "./experts.js";
import { bindRoute, bindRouteBackward } from "./gate.js";
import { bindKernel } from "./kernels.js";
import { bindGather, bindScatter, bindSumSlices, bindUpdate } from "./reduction.js";
import { bindDecode, bindDecodeBackward, bindEncode, bindEncodeBackward, bindSum } from "./rows.js";
import { bindStatistics } from "./statistics.js";
import { bindTransfer } from "./transfer.js";

/** What each kind of operator does. */
export const ACTIONS: ActionTable = {
  embed: bindEmbed,
  "embed'": bindEmbedBackward,
  kernel: bindKernel,
  "kernel'": bindKernel,
  route: bindRoute,
  "route'": bindRouteBackward,
  encode: bindEncode,
  "encode'": bindEncodeBackward,
  transfer: bindTransfer,
  expert: bindExperts,
  "expert'": bindExpertsBackward,
  decode: bindDecode,
  "decode'": bindDecodeBackward,
  sum: bindSum,
  statistics: bindStatistics,
  "reduce-scatter": bindScatter,
  "reduce-sum": bindSumSlices,
  "all-gather": bindGather,
  update: bindUpdate,
};
