/** A cluster's links for the simulator: what transfers carry over each level when experts are uneven. */
import { philox } from "../core/rng.js";
import type { Operator } from "../program/operator.js";
import { bytesPerPeer, levelBytes, trafficKey } from "./analytic.js";
import type { Cluster } from "./clusters.js";
import { type Network, type Traffic, loadTraffic } from "./network.js";

/** Rows that each rank's experts receive over the mean, for a layer: [epSize]. */
export type LoadOf = (layer: number) => readonly number[];

export interface ClusterRanks {
  /** Ranks that share one copy of the experts. */
  readonly epSize: number;
  /** Ranks there are in all, for what all of them do together. */
  readonly ranks: number;
  /** Ranks that are simulated: all that share the experts (the default), or one that stands for them. */
  readonly simulated?: "group" | "one" | undefined;
}

/** Whether all ranks of a group are alike, with even loads: groups fill nodes, or nodes groups. */
export function ranksAreAlike(epSize: number, { devicesPerNode }: Pick<Cluster, "devicesPerNode">): boolean {
  return epSize % devicesPerNode === 0 || devicesPerNode % epSize === 0;
}

/** The ports of the ranks that are simulated; those that are not take their part of what nodes share. */
export function clusterNetwork(at: ClusterRanks, cluster: Cluster, loadOf: LoadOf): Network {
  const { epSize, ranks, simulated = "group" } = at;
  const { devicesPerNode: ranksPerNode, linkEfficiency, uplinkBytesPerMs } = cluster;
  const numSimulated = simulated === "one" ? 1 : epSize;
  const known = new Map<string, Traffic>();
  const even = (op: Operator): Traffic => {
    const { intra, inter } = levelBytes(op, { ranks, epSize, devicesPerNode: ranksPerNode });
    return {
      intraBytes: new Float64Array(numSimulated).fill(intra),
      interBytes: new Float64Array(numSimulated).fill(inter),
    };
  };
  const ofRows = (op: Operator, first: number): Traffic =>
    // In all a rank sends as much to itself as to any peer.
    loadTraffic(bytesPerPeer(op) * epSize, loadOf(op.layer ?? 0), { first, ranksPerNode });
  const traffic = (op: Operator, first: number): Traffic | undefined => {
    // Groups that begin at the same place in a node look alike.
    const place = first % ranksPerNode;
    const key = `${op.layer ?? 0} ${place} ${trafficKey(op)}`;
    let found = known.get(key);
    if (found === undefined) {
      found = op.kind === "transfer" && simulated === "group" ? ofRows(op, place) : even(op);
      known.set(key, found);
    }
    return found.intraBytes[0] + found.interBytes[0] === 0 ? undefined : found;
  };
  const inNode = Math.min(numSimulated, ranksPerNode);
  return {
    ranksPerNode,
    intraBytesPerMs: cluster.intraBytesPerMs * linkEfficiency,
    interBytesPerMs: cluster.interBytesPerMs * linkEfficiency,
    uplinkBytesPerMs:
      uplinkBytesPerMs === undefined
        ? undefined
        : (uplinkBytesPerMs * linkEfficiency * inNode) / Math.min(ranks, ranksPerNode),
    latencyMs: cluster.latencyMs,
    traffic,
    groupSize: (op) => (op.kind === "transfer" ? numSimulated : undefined),
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
