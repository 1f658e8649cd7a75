/** What `plan` says of memory: what a rank needs, and what would make it fit. */
import type { PlanRow } from "../api/plan.js";
import type { Remedy } from "../api/plan-fit.js";
import { type DeviceMemory, usableBytes } from "../run/device-memory.js";
import type { Cluster } from "../simulate/clusters.js";

export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** "weights 1.2 GB, gradients 1.2 GB, …: 41.2 GB" */
export function partsOfMemory(memory: DeviceMemory): string {
  const { weights, gradients, optimizer, activations, buffers, total } = memory;
  const parts = Object.entries({ weights, gradients, optimizer, activations, buffers });
  const needed = parts.filter(([, bytes]) => bytes > 0);
  return `${needed.map(([name, bytes]) => `${name} ${gigabytes(bytes)}`).join(", ")}: ${gigabytes(total)}`;
}

/** "of 72.0 GB that can be used of a device's 80 GB" */
export function capacityOf({ memoryBytes, name }: Cluster): string {
  return memoryBytes === undefined
    ? `(${name} does not say how much memory its devices have)`
    : `of ${gigabytes(usableBytes(memoryBytes))} that can be used of a device's ${Math.round(memoryBytes / 1e9)} GB`;
}

/** The best row's memory by its parts; what does not fit, and why, one line for rows of which the same is true. */
export function memoryLines(rows: readonly PlanRow[], best: PlanRow, cluster: Cluster): string[] {
  const misfits = new Map<string, PlanRow[]>();
  for (const row of rows)
    if (row.fits === false) {
      const why = whyNot(row, cluster);
      misfits.set(why, [...(misfits.get(why) ?? []), row]);
    }
  return [
    `memory per rank, ${best.arch} ${best.policy}: ${partsOfMemory(best.memory)} ${capacityOf(cluster)}`,
    ...[...misfits].map(([why, alike]) => {
      const names = alike.map(({ arch, policy }) => `${arch} ${policy}`).join(", ");
      return `does not fit: ${names}: ${why}`;
    }),
  ];
}

function whyNot({ memory, remedies = [] }: PlanRow, cluster: Cluster): string {
  const what = `a rank needs ${gigabytes(memory.total)} ${capacityOf(cluster)}`;
  const [first] = remedies;
  if (first === undefined) return `${what}; a smaller model or devices with more memory are wanted`;
  if (!first.fits)
    return `${what}; not even ${remedyText(first)} would do: more expert-parallel ranks, a smaller model or devices with more memory are wanted`;
  return `${what}; would fit with ${remedies.map(remedyText).join(", or ")}`;
}

/** "--batch 2 --recompute (61.0 GB)" */
function remedyText({ change, bytes }: Remedy): string {
  const { batch, recompute, zero, epSize } = change;
  const flags = [
    ...(batch === undefined ? [] : [`--batch ${batch}`]),
    ...(recompute ? ["--recompute"] : []),
    ...(zero ? ["--zero"] : []),
    ...(epSize === undefined ? [] : [`--ep ${epSize}`]),
  ];
  return `${flags.join(" ")} (${gigabytes(bytes)})`;
}
