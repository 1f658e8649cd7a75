/** Devices and networks by name. Every constant has its source; efficiencies are assumptions and can be calibrated. */
import { BOUNDS, fits } from "../core/bounds.js";
import { InputError, didYouMean } from "../core/errors.js";

/** Equal devices in equal nodes; rates in FLOP or bytes per millisecond, of one device. */
export interface Cluster {
  readonly name: string;
  readonly devicesPerNode: number;
  readonly nodes: number;
  /** Dense 16-bit matrix rate of one device, in FLOP per ms, as data sheets state it. */
  readonly flopsPerMs: number;
  readonly memoryBytesPerMs: number;
  /** Memory of one device; without it nothing can be said of what fits. */
  readonly memoryBytes?: number;
  /** Per device and direction. */
  readonly intraBytesPerMs: number;
  readonly interBytesPerMs: number;
  /** Of a whole node, when its devices share the way out. */
  readonly uplinkBytesPerMs?: number;
  readonly latencyMs: number;
  /** Achieved shares of the stated rates. */
  readonly computeEfficiency: number;
  readonly linkEfficiency: number;
  readonly source: string;
}

export const TFLOPS = 1e9;
export const GB_PER_S = 1e6;
/** Assumed where nothing has been measured: matrix work of transformer blocks, and All-to-All of large messages. */
export const ASSUMED = { computeEfficiency: 0.45, linkEfficiency: 0.6 } as const;

const GB = 1e9;
const PCIE4 = 32 * GB_PER_S;
const NVLINK_A800 = 200 * GB_PER_S;
const NVLINK_4 = 450 * GB_PER_S;
const NVLINK_5 = 900 * GB_PER_S;
const HDR = 25 * GB_PER_S;
const NDR = 50 * GB_PER_S;

/** Nodes of eight devices, however many; `source` of one node, and of what is between several. */
interface NodeType extends Omit<Cluster, "name" | "nodes" | "latencyMs" | "source" | "devicesPerNode"> {
  /** Of a collective within one node, and between nodes. */
  readonly latenciesMs: readonly [within: number, between: number];
  readonly sources: readonly [within: string, between: string];
}

const HOPPER = {
  flopsPerMs: 989 * TFLOPS,
  intraBytesPerMs: NVLINK_4,
  interBytesPerMs: NDR,
  latenciesMs: [0.015, 0.02],
  ...ASSUMED,
} as const;
const INFINIBAND = "InfiniBand NDR, 400 Gbit/s per device";

const NODE_TYPES: Readonly<Record<string, NodeType>> = {
  A800: {
    flopsPerMs: 312 * TFLOPS,
    memoryBytesPerMs: 2039 * GB_PER_S,
    memoryBytes: 80 * GB,
    intraBytesPerMs: NVLINK_A800,
    interBytesPerMs: HDR,
    latenciesMs: [0.02, 0.03],
    ...ASSUMED,
    sources: [
      "NVIDIA A800 SXM data sheet (312 TFLOPS, 80 GB, 2039 GB/s, NVLink 400 GB/s both directions)",
      "InfiniBand HDR, 200 Gbit/s per device (assumed)",
    ],
  },
  H100: {
    ...HOPPER,
    memoryBytesPerMs: 3350 * GB_PER_S,
    memoryBytes: 80 * GB,
    sources: [
      "NVIDIA H100 SXM data sheet (989 TFLOPS, 80 GB, 3.35 TB/s, NVLink 900 GB/s both directions)",
      `${INFINIBAND} (DGX H100 data sheet)`,
    ],
  },
  H200: {
    ...HOPPER,
    memoryBytesPerMs: 4800 * GB_PER_S,
    memoryBytes: 141 * GB,
    sources: [
      "NVIDIA H200 SXM data sheet (989 TFLOPS, 141 GB, 4.8 TB/s, NVLink 900 GB/s both directions)",
      `${INFINIBAND} (DGX H200 data sheet)`,
    ],
  },
  B200: {
    ...HOPPER,
    flopsPerMs: 2250 * TFLOPS,
    memoryBytesPerMs: 8000 * GB_PER_S,
    memoryBytes: 180 * GB,
    intraBytesPerMs: NVLINK_5,
    sources: [
      "NVIDIA HGX and DGX B200 data sheets, an eighth of a node (2250 TFLOPS dense, 180 GB, 8 TB/s, NVLink 1.8 TB/s both directions)",
      `${INFINIBAND} (DGX B200 data sheet)`,
    ],
  },
};

/** @returns so many nodes of a type, or undefined when there is no such type */
function nodesOf(type: string, nodes: number, name: string): Cluster | undefined {
  if (!Object.hasOwn(NODE_TYPES, type)) return undefined;
  const { latenciesMs, sources, ...node } = NODE_TYPES[type];
  return {
    name,
    ...node,
    devicesPerNode: 8,
    nodes,
    // Nobody is elsewhere.
    ...(nodes === 1 ? { interBytesPerMs: node.intraBytesPerMs } : {}),
    latencyMs: latenciesMs[nodes === 1 ? 0 : 1],
    source: nodes === 1 ? sources[0] : sources.join("; between nodes "),
  };
}

const A30: Cluster = {
  name: "8xA30-PCIe",
  flopsPerMs: 165 * TFLOPS,
  memoryBytesPerMs: 933 * GB_PER_S,
  memoryBytes: 24 * GB,
  devicesPerNode: 8,
  nodes: 1,
  // Eight devices share the host's bridges: All-to-All through host memory, both directions on one link.
  intraBytesPerMs: PCIE4 / 4,
  interBytesPerMs: PCIE4 / 4,
  latencyMs: 0.03,
  ...ASSUMED,
  source: "NVIDIA A30 data sheet (165 TFLOPS, 24 GB, 933 GB/s, PCIe 4.0 ×16: 32 GB/s per direction)",
};

const NAMED = [
  "8xA800-NVLink",
  "2x8xA800",
  "8xH100",
  "4x8xH100-IB",
  "8xH200",
  "4x8xH200-IB",
  "8xB200",
  "4x8xB200-IB",
] as const;

/** "128x8xH100-IB": any number of nodes of eight devices, NVLink within, InfiniBand between. */
const ANY_NODES = /^(?:(\d+)x)?8x([a-z]\d+)(?:-NVLink|-IB)?$/i;

function anyNodes(name: string): Cluster | undefined {
  const [, nodes = "1", type] = ANY_NODES.exec(name) ?? [];
  if (type === undefined || !fits(Number(nodes), BOUNDS.devices)) return undefined;
  return nodesOf(type.toUpperCase(), Number(nodes), name);
}

/** Clusters by name, with the rates that data sheets state. Of all but the first there may be any number of nodes. */
export const CLUSTERS: readonly Cluster[] = [A30, ...NAMED.map((name) => anyNodes(name) as Cluster)];

/**
 * The cluster of a name; of nodes of eight, any number: "128x8xB200-IB".
 * @throws InputError with a suggestion when there is no such cluster
 */
export function cluster(name: string): Cluster {
  const found = CLUSTERS.find((c) => c.name.toLowerCase() === name.toLowerCase()) ?? anyNodes(name);
  if (found !== undefined) return found;
  const names = CLUSTERS.map((c) => c.name);
  const near = didYouMean(name, names);
  throw new InputError(
    `Unknown cluster "${name}"${near ? `: did you mean "${near}"?` : ""} (known: ${names.join(", ")}, and as many nodes as you like: 128x8xH100-IB)`,
  );
}
