/**
 * Measured constants in place of assumed ones: what `bench compare --calibration FILE` writes and `plan --calibration
 * FILE` reads. Rates are achieved ones of this machine, by class of operator.
 */
import { z } from "zod";
import type { CostTable } from "../simulate/costs.js";
import { type ModelInput, parseWith, resolveModel } from "../model/config.js";
import { median } from "../core/statistics.js";
import { MATRIX_CLASSES, type Workload, forwardFlops, movedBytes, rowsBytes } from "./analytic.js";

const FORMAT = "scmoe calibration 1";
const rates = z.record(z.string(), z.number().positive());

export const calibrationSchema = z.strictObject({
  format: z.literal(FORMAT),
  /** What was measured: for people. */
  source: z.string(),
  ranks: z.number().int().positive(),
  /** FLOP per ms that each class of matrix work achieves, forward. */
  flops_per_ms: rates,
  /** Backward over forward time of a class. */
  backward_ratio: rates,
  /** Bytes per ms that the small operators (encode, decode, route …) achieve. */
  memory_bytes_per_ms: z.number().positive().optional(),
  link: z
    .strictObject({ bytes_per_ms: z.number().positive(), latency_ms: z.number().nonnegative() })
    .optional(),
});

/** Rates that were achieved, by class of operator. */
export type Calibration = z.output<typeof calibrationSchema>;

/**
 * Checks a calibration that has been read as JSON.
 * @throws InputError naming where, the key, what was found and what was wanted
 */
export function parseCalibration(json: unknown, where: string): Calibration {
  return parseWith(calibrationSchema, json, where);
}

/** Of a comparison's row, what rates follow from. */
export interface MeasuredRow {
  readonly arch: string;
  readonly policy: string;
  readonly mode: string;
  /** Milliseconds per class of operator. */
  readonly costs: CostTable;
}

/** What was measured. */
export interface MeasuredWorkload {
  /** Without `arch`. */
  readonly model: Omit<ModelInput, "arch">;
  readonly batch: number;
  readonly sequence: number;
  readonly epSize: number;
  /** Bytes of an element on the wire and in memory. */
  readonly elementBytes: number;
}

/** Constants from the measured medians of whole (not chunked) rows. */
export function calibrate(
  rows: readonly MeasuredRow[],
  measured: MeasuredWorkload,
  facts: { readonly source: string; readonly ranks: number },
): Calibration {
  const flops = new Collected();
  const ratios = new Collected();
  const memory: number[] = [];
  const transfers: { bytes: number; ms: number }[] = [];
  for (const { arch, policy, costs } of rows) {
    if (/\(\d+\)/.test(policy) && !policy.startsWith("fixed")) continue;
    const config = resolveModel({ ...measured.model, arch });
    const { batch, sequence, epSize, elementBytes } = measured;
    const w: Workload = { config, tokens: batch * sequence, sequence, epSize, chunks: 1, elementBytes };
    for (const [key, ms] of Object.entries(costs)) {
      const [stream, name] = key.split(" ");
      if (ms <= 0) continue;
      if (stream === "network" && /^(dispatch|combine)$/.test(name) && epSize > 1)
        transfers.push({ bytes: (rowsBytes(w) * (epSize - 1)) / epSize, ms });
      if (stream !== "compute") continue;
      if (MATRIX_CLASSES.includes(name)) {
        flops.add(name, forwardFlops(name, w) / ms);
        const backward = costs[`compute ${name}'`];
        if (backward > 0) ratios.add(name, backward / ms);
      } else if (/^(encode|decode)$/.test(name)) memory.push(movedBytes(name, w) / ms);
    }
  }
  return {
    format: FORMAT,
    ...facts,
    flops_per_ms: flops.medians(),
    backward_ratio: ratios.medians(),
    memory_bytes_per_ms: memory.length === 0 ? undefined : median(memory),
    link: fitLink(transfers),
  };
}

class Collected {
  readonly #values = new Map<string, number[]>();

  add(key: string, value: number): void {
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }

  medians(): Record<string, number> {
    return Object.fromEntries([...this.#values].map(([key, list]) => [key, median(list)]));
  }
}

/** Least squares of ms = latency + bytes / rate; with messages of one size, all of the time is the rate's. */
function fitLink(transfers: readonly { bytes: number; ms: number }[]): Calibration["link"] {
  if (transfers.length === 0) return undefined;
  const mean = (of: (t: { bytes: number; ms: number }) => number): number =>
    transfers.reduce((sum, t) => sum + of(t), 0) / transfers.length;
  const [bytes, ms] = [mean((t) => t.bytes), mean((t) => t.ms)];
  const variance = mean((t) => (t.bytes - bytes) ** 2);
  const slope = variance === 0 ? 0 : mean((t) => (t.bytes - bytes) * (t.ms - ms)) / variance;
  const latency = ms - slope * bytes;
  if (slope <= 0 || latency < 0) return { bytes_per_ms: bytes / ms, latency_ms: 0 };
  return { bytes_per_ms: 1 / slope, latency_ms: latency };
}
