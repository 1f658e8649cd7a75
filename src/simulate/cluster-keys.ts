/** A cluster described in the units of data sheets. */
import { z } from "zod";
import { parseWith } from "../core/parse.js";
import { ASSUMED, type Cluster, GB_PER_S, TFLOPS } from "./clusters.js";

/** In units of 10⁹ per second. */
const rate = z.number().positive().max(1e12);
const share = z.number().positive().max(1);

const clusterSchema = z.strictObject({
  name: z.string().optional(),
  nodes: z.number().int().positive().max(65_536).default(1),
  devices_per_node: z.number().int().positive().max(65_536),
  tflops: rate.describe("Dense 16-bit matrix rate of a device"),
  memory_gb_per_s: rate,
  memory_gb: rate.optional().describe("Memory of a device; without it nothing is said of what fits"),
  intra_gb_per_s: rate.describe("Per device and direction, within a node"),
  inter_gb_per_s: rate.optional().describe("Per device and direction, between nodes; default as within"),
  uplink_gb_per_s: rate.optional().describe("Of a whole node, when its devices share the way out"),
  latency_us: z.number().nonnegative().max(6e7).default(20),
  compute_efficiency: share.default(ASSUMED.computeEfficiency),
  link_efficiency: share.default(ASSUMED.linkEfficiency),
  source: z.string().optional(),
});

/**
 * A cluster from the keys of its description, in units of data sheets.
 * @param keys nodes, devices_per_node, tflops, memory_gb_per_s, intra_gb_per_s …
 * @throws InputError naming where, the key, what was found and what was wanted
 */
export function describeCluster(keys: unknown, where: string): Cluster {
  const d = parseWith(clusterSchema, keys ?? {}, where);
  return {
    name: d.name ?? where,
    nodes: d.nodes,
    devicesPerNode: d.devices_per_node,
    flopsPerMs: d.tflops * TFLOPS,
    memoryBytesPerMs: d.memory_gb_per_s * GB_PER_S,
    ...(d.memory_gb === undefined ? {} : { memoryBytes: d.memory_gb * 1e9 }),
    intraBytesPerMs: d.intra_gb_per_s * GB_PER_S,
    interBytesPerMs: (d.inter_gb_per_s ?? d.intra_gb_per_s) * GB_PER_S,
    uplinkBytesPerMs: d.uplink_gb_per_s === undefined ? undefined : d.uplink_gb_per_s * GB_PER_S,
    latencyMs: d.latency_us / 1e3,
    computeEfficiency: d.compute_efficiency,
    linkEfficiency: d.link_efficiency,
    source: d.source ?? where,
  };
}
