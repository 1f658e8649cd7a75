/**
 * Networks of one and of two levels. On two levels a transfer occupies a rank's port inside the node and its port
 * between nodes, each for what it carries there; ranks of a node may share one way out.
 */
import type { Operator } from "../program/operator.js";

/** Bytes per rank of a group, in rank order; each rank's larger direction is what its port carries. */
export interface Traffic {
  /** To (or from, if more) ranks of the same node. */
  readonly intraBytes: Float64Array;
  /** To (or from, if more) ranks of other nodes. */
  readonly interBytes: Float64Array;
}

/** Ports of ranks and nodes, and what transfers carry over them. */
export interface Network {
  readonly ranksPerNode: number;
  /** Rates of one rank's ports, each direction. */
  readonly intraBytesPerMs: number;
  readonly interBytesPerMs: number;
  /** Rate of a node's way out when its ranks share it; without it only their own ports limit them. */
  readonly uplinkBytesPerMs?: number;
  /** Added to a transfer without occupying a port. */
  readonly latencyMs: number;
  /** What a transfer carries; undefined for one that takes only its latency. */
  traffic(op: Operator, firstRank: number): Traffic | undefined;
  /** How many neighbouring ranks take part in a transfer; all, unless given. Groups do not wait for each other. */
  groupSize?(op: Operator): number | undefined;
}

/** When every port is free again. */
export class Ports {
  readonly #intraFree: Float64Array;
  readonly #interFree: Float64Array;
  readonly #uplinkFree: Float64Array;

  constructor(
    numRanks: number,
    readonly network?: Network,
  ) {
    this.#intraFree = new Float64Array(numRanks);
    this.#interFree = new Float64Array(numRanks);
    this.#uplinkFree = new Float64Array(numRanks);
  }

  /** When each rank's part of a transfer that may begin at `beginMs` has been carried, in rank order. */
  carry(
    op: Operator,
    beginMs: number,
    first: number,
    size: number,
    cost: (rank: number) => number,
  ): Float64Array {
    const ends = new Float64Array(size);
    const { network } = this;
    if (network === undefined) {
      for (let i = 0; i < size; i++)
        ends[i] = this.#intraFree[first + i] =
          Math.max(beginMs, this.#intraFree[first + i]) + cost(first + i);
      return ends;
    }
    const traffic = network.traffic(op, first);
    for (let i = 0; i < size; i++) {
      const rank = first + i;
      ends[i] = beginMs;
      if (traffic === undefined) continue;
      const [intra, inter] = [traffic.intraBytes[i], traffic.interBytes[i]];
      if (intra > 0) {
        this.#intraFree[rank] = Math.max(beginMs, this.#intraFree[rank]) + intra / network.intraBytesPerMs;
        ends[i] = this.#intraFree[rank];
      }
      if (inter > 0) {
        this.#interFree[rank] = Math.max(beginMs, this.#interFree[rank]) + inter / network.interBytesPerMs;
        ends[i] = Math.max(ends[i], this.#interFree[rank]);
      }
    }
    if (traffic !== undefined && network.uplinkBytesPerMs !== undefined)
      this.#share(traffic.interBytes, { beginMs, first, rate: network.uplinkBytesPerMs }, ends);
    for (let i = 0; i < size; i++) ends[i] += network.latencyMs;
    return ends;
  }

  /** Ranks of a node leave by one way out: none of them is done before all their bytes have passed. */
  #share(
    interBytes: Float64Array,
    at: { readonly beginMs: number; readonly first: number; readonly rate: number },
    ends: Float64Array,
  ): void {
    const { ranksPerNode } = this.network as Network;
    for (let i = 0; i < interBytes.length;) {
      const node = Math.floor((at.first + i) / ranksPerNode);
      const until = Math.min(interBytes.length, (node + 1) * ranksPerNode - at.first);
      let bytes = 0;
      for (let peer = i; peer < until; peer++) bytes += interBytes[peer];
      if (bytes > 0) {
        this.#uplinkFree[node] = Math.max(at.beginMs, this.#uplinkFree[node]) + bytes / at.rate;
        for (let peer = i; peer < until; peer++) ends[peer] = Math.max(ends[peer], this.#uplinkFree[node]);
      }
      i = until;
    }
  }
}

/**
 * Traffic of an All-to-All without naming pairs: every rank sends `bytes` in all, and peer p attracts `load[p]` of
 * the mean (its experts' popularity). The way back carries the same pairs in the other direction.
 */
export function loadTraffic(
  bytes: number,
  load: ArrayLike<number>,
  group: { readonly first: number; readonly ranksPerNode: number },
): Traffic {
  const size = load.length;
  const { first, ranksPerNode } = group;
  const [intraBytes, interBytes] = [new Float64Array(size), new Float64Array(size)];
  let total = 0;
  for (let i = 0; i < size; i++) total += load[i];
  for (let start = 0; start < size;) {
    const end = Math.min(size, (Math.floor((first + start) / ranksPerNode) + 1) * ranksPerNode - first);
    let local = 0;
    for (let i = start; i < end; i++) local += load[i];
    for (let i = start; i < end; i++) {
      const share = load[i] / total;
      const sentIntra = (bytes * (local - load[i])) / total;
      const sentInter = (bytes * (total - local)) / total;
      intraBytes[i] = Math.max(sentIntra, bytes * share * (end - start - 1));
      interBytes[i] = Math.max(sentInter, bytes * share * (size - (end - start)));
    }
    start = end;
  }
  return { intraBytes, interBytes };
}
