/** A cluster's links for the simulator: what dispatch and combine carry over each level when experts are uneven. */
import { philox } from "../core/rng.js";
import type { Operator } from "../program/operator.js";
import type { Cluster } from "../simulate/clusters.js";
import { type Network, type Traffic, loadTraffic } from "../simulate/network.js";
import { type Workload, rowsBytes } from "./analytic.js";

/** Rows that each rank's experts receive over the mean, for a layer: [epSize]. */
export type LoadOf = (layer: number) => readonly number[];

export function clusterNetwork(w: Workload, cluster: Cluster, loadOf: LoadOf): Network {
  const { devicesPerNode: ranksPerNode, linkEfficiency } = cluster;
  const known = new Map<string, Traffic>();
  const traffic = (op: Operator, first: number): Traffic | undefined => {
    if (!/^(dispatch|combine)/.test(op.cost) || w.epSize === 1) return undefined;
    // Groups that begin at the same place in a node look alike.
    const key = `${op.layer ?? 0} ${first % ranksPerNode}`;
    let found = known.get(key);
    if (found === undefined) {
      found = loadTraffic(rowsBytes(w), loadOf(op.layer ?? 0), { first: first % ranksPerNode, ranksPerNode });
      known.set(key, found);
    }
    return found;
  };
  return {
    ranksPerNode,
    intraBytesPerMs: cluster.intraBytesPerMs * linkEfficiency,
    interBytesPerMs: cluster.interBytesPerMs * linkEfficiency,
    uplinkBytesPerMs:
      cluster.uplinkBytesPerMs === undefined ? undefined : cluster.uplinkBytesPerMs * linkEfficiency,
    latencyMs: cluster.latencyMs,
    traffic,
    groupSize: (op) => (/^(dispatch|combine)/.test(op.cost) ? w.epSize : undefined),
  };
}

/**
 * Loads that differ by layer and step: the busiest rank has `imbalance` times the mean, the others share what is left
 * unevenly. Deterministic in (seed, step, layer).
 */
export function unevenLoads(
  epSize: number,
  imbalance: number,
  at: { readonly seed: number; readonly step: number },
): LoadOf {
  return (layer) => {
    if (imbalance <= 1 || epSize === 1) return Array<number>(epSize).fill(1);
    const random = philox(at.seed, `expert load of layer ${layer}, step ${at.step}`);
    const busiest = Math.min(epSize - 1, Math.floor(random.uniform(0) * epSize));
    const top = Math.min(imbalance, epSize);
    const rest = Array.from({ length: epSize }, (_, rank) =>
      rank === busiest ? 0 : 0.5 + random.uniform(rank + 1),
    );
    const sum = rest.reduce((a, b) => a + b, 0);
    const scale = (epSize - top) / sum;
    return rest.map((x, rank) => (rank === busiest ? top : Math.min(top, x * scale)));
  };
}
