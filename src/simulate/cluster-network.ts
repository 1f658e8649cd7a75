/** A cluster's links for the simulator: what transfers carry over each level when experts are uneven. */
import { philox } from "../core/rng.js";
import type { Operator } from "../program/operator.js";
import { bytesPerPeer, groupSize } from "./analytic.js";
import type { Cluster } from "./clusters.js";
import { type Network, type Traffic, loadTraffic } from "./network.js";

/** Rows that each rank's experts receive over the mean, for a layer: [epSize]. */
export type LoadOf = (layer: number) => readonly number[];

export interface ClusterRanks {
  /** Ranks that are simulated: one group that shares the experts. */
  readonly epSize: number;
  /** Ranks there are in all, for what all of them do together. */
  readonly ranks: number;
}

export function clusterNetwork({ epSize, ranks }: ClusterRanks, cluster: Cluster, loadOf: LoadOf): Network {
  const { devicesPerNode: ranksPerNode, linkEfficiency, uplinkBytesPerMs } = cluster;
  const known = new Map<string, Traffic>();
  const ofRows = (op: Operator, first: number): Traffic =>
    // In all a rank sends as much to itself as to any peer.
    loadTraffic(bytesPerPeer(op, ranks) * epSize, loadOf(op.layer ?? 0), { first, ranksPerNode });
  const traffic = (op: Operator, first: number): Traffic | undefined => {
    if (bytesPerPeer(op, ranks) === 0) return undefined;
    // Groups that begin at the same place in a node look alike.
    const place = first % ranksPerNode;
    const key = `${op.layer ?? 0} ${place} ${op.cost}`;
    let found = known.get(key);
    if (found === undefined) {
      found = op.kind === "transfer" ? ofRows(op, place) : evenTraffic(op, { epSize, ranks, ranksPerNode });
      known.set(key, found);
    }
    return found;
  };
  return {
    ranksPerNode,
    intraBytesPerMs: cluster.intraBytesPerMs * linkEfficiency,
    interBytesPerMs: cluster.interBytesPerMs * linkEfficiency,
    uplinkBytesPerMs: uplinkBytesPerMs === undefined ? undefined : uplinkBytesPerMs * linkEfficiency,
    latencyMs: cluster.latencyMs,
    traffic,
    groupSize: (op) => (op.kind === "transfer" ? epSize : undefined),
  };
}

/** The same from every rank to every other; the ranks that are not simulated take their part of the links. */
function evenTraffic(
  op: Operator,
  { epSize, ranks, ranksPerNode }: ClusterRanks & { readonly ranksPerNode: number },
): Traffic {
  const perPeer = bytesPerPeer(op, ranks);
  const size = groupSize(op, ranks);
  const local = Math.min(size, ranksPerNode);
  return {
    intraBytes: new Float64Array(epSize).fill(perPeer * (local - 1)),
    interBytes: new Float64Array(epSize).fill(perPeer * (size - local)),
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
