/** Devices and networks by name. Every constant has its source; efficiencies are assumptions and can be calibrated. */
import { InputError, didYouMean } from "../core/errors.js";

/** Equal devices in equal nodes; rates in FLOP or bytes per millisecond, of one device. */
export interface Cluster {
  readonly name: string;
  readonly devicesPerNode: number;
  readonly nodes: number;
  /** Dense 16-bit matrix rate of one device, in FLOP per ms, as data sheets state it. */
  readonly flopsPerMs: number;
  readonly memoryBytesPerMs: number;
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

const PCIE4 = 32 * GB_PER_S;
const NVLINK_A800 = 200 * GB_PER_S;
const NVLINK_H = 450 * GB_PER_S;
const HDR = 25 * GB_PER_S;
const NDR = 50 * GB_PER_S;

type Node = Omit<Cluster, "name" | "nodes" | "latencyMs" | "source">;
const A800: Node = {
  devicesPerNode: 8,
  flopsPerMs: 312 * TFLOPS,
  memoryBytesPerMs: 2039 * GB_PER_S,
  intraBytesPerMs: NVLINK_A800,
  interBytesPerMs: HDR,
  ...ASSUMED,
};
const H100: Node = {
  devicesPerNode: 8,
  flopsPerMs: 989 * TFLOPS,
  memoryBytesPerMs: 3350 * GB_PER_S,
  intraBytesPerMs: NVLINK_H,
  interBytesPerMs: NDR,
  ...ASSUMED,
};

/** Clusters by name, with the rates that data sheets state. */
export const CLUSTERS: readonly Cluster[] = [
  {
    name: "8xA30-PCIe",
    flopsPerMs: 165 * TFLOPS,
    memoryBytesPerMs: 933 * GB_PER_S,
    devicesPerNode: 8,
    nodes: 1,
    // Eight devices share the host's bridges: All-to-All through host memory, both directions on one link.
    intraBytesPerMs: PCIE4 / 4,
    interBytesPerMs: PCIE4 / 4,
    latencyMs: 0.03,
    ...ASSUMED,
    source: "NVIDIA A30 data sheet (165 TFLOPS, 933 GB/s, PCIe 4.0 ×16: 32 GB/s per direction)",
  },
  {
    name: "8xA800-NVLink",
    ...A800,
    nodes: 1,
    interBytesPerMs: NVLINK_A800,
    latencyMs: 0.02,
    source: "NVIDIA A800 SXM data sheet (312 TFLOPS, 2039 GB/s, NVLink 400 GB/s both directions)",
  },
  {
    name: "2x8xA800",
    ...A800,
    nodes: 2,
    latencyMs: 0.03,
    source: "A800 as above; between nodes InfiniBand HDR, 200 Gbit/s per device (assumed)",
  },
  {
    name: "8xH100",
    ...H100,
    nodes: 1,
    latencyMs: 0.015,
    source: "NVIDIA H100 SXM data sheet (989 TFLOPS, 3.35 TB/s, NVLink 900 GB/s both directions)",
  },
  {
    name: "4x8xH100-IB",
    ...H100,
    nodes: 4,
    latencyMs: 0.02,
    source: "H100 as above; InfiniBand NDR, 400 Gbit/s per device (DGX H100 data sheet)",
  },
  {
    name: "4x8xH200-IB",
    ...H100,
    memoryBytesPerMs: 4800 * GB_PER_S,
    nodes: 4,
    latencyMs: 0.02,
    source:
      "NVIDIA H200 SXM data sheet (989 TFLOPS, 4.8 TB/s, NVLink 900 GB/s both directions); InfiniBand NDR",
  },
];

/**
 * The cluster of a name.
 * @throws InputError with a suggestion when there is no such cluster
 */
export function cluster(name: string): Cluster {
  const found = CLUSTERS.find((c) => c.name.toLowerCase() === name.toLowerCase());
  if (found !== undefined) return found;
  const names = CLUSTERS.map((c) => c.name);
  const near = didYouMean(name, names);
  throw new InputError(
    `Unknown cluster "${name}"${near ? `: did you mean "${near}"?` : ""} (known: ${names.join(", ")})`,
  );
}
