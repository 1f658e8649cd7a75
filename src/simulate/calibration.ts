/**
 * Measured constants in place of assumed ones: what `bench compare --calibration FILE` writes and `plan --calibration
 * FILE` reads. Rates are achieved ones of this machine, by class of operator.
 */
import { z } from "zod";
import { BOUNDS } from "../core/bounds.js";
import { parseWith } from "../core/parse.js";
import { median } from "../core/statistics.js";
import type { Operator, Pass, Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Work } from "../program/work.js";
import type { CostTable } from "./costs.js";

const FORMAT = "scmoe calibration 2";
const rate = z.number().positive().max(BOUNDS.rate.to);
const rates = z.record(z.string(), rate);

export const calibrationSchema = z.strictObject({
  format: z.literal(FORMAT),
  /** What was measured: for people. */
  source: z.string(),
  ranks: z.number().int().positive().max(BOUNDS.devices.to),
  /** FLOP per ms that each class of matrix work achieves, forward ("attention") and backward ("attention'"). */
  flops_per_ms: rates,
  /** Bytes per ms that operators without matrix work (encode, decode) achieve. */
  memory_bytes_per_ms: rate.optional(),
  link: z
    .strictObject({ bytes_per_ms: rate, latency_ms: z.number().nonnegative().max(BOUNDS.latencyMs.to) })
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

/** Work, and how long it took. */
export interface MeasuredWork {
  readonly stream: Stream;
  readonly pass: Pass;
  readonly work: Work;
  readonly ms: number;
}

/** What is known of a program's operators; those that are alike once. */
export function measuredWork({ operators }: Program, table: CostTable): MeasuredWork[] {
  const alike = new Map<string, Operator>(operators.map((op) => [op.cost, op]));
  return [...alike].flatMap(([key, { stream, pass, work }]) =>
    table[key] === undefined ? [] : [{ stream, pass, work, ms: table[key] }],
  );
}

/** Rates differ by class and pass: "attention", "attention'". */
export function rateName({ pass, work }: Pick<Operator, "pass" | "work">): string {
  return pass === "backward" ? `${work.class}'` : work.class;
}

/** Constants from measured work: medians of the rates. */
export function calibrate(
  measured: readonly MeasuredWork[],
  facts: { readonly source: string; readonly ranks: number },
): Calibration {
  const flops = new Map<string, number[]>();
  const memory: number[] = [];
  const transfers: { bytes: number; ms: number }[] = [];
  for (const { stream, pass, work, ms } of measured) {
    if (ms <= 0) continue;
    if (stream === "network" && work.rows !== undefined && work.bytes > 0)
      transfers.push({ bytes: work.bytes, ms });
    if (stream !== "compute") continue;
    const name = rateName({ pass, work });
    if (work.flops > 0) flops.set(name, [...(flops.get(name) ?? []), work.flops / ms]);
    // Others are too small for their bytes to matter, or wait for something else.
    else if (work.class === "encode" || work.class === "decode") memory.push(work.bytes / ms);
  }
  return {
    format: FORMAT,
    ...facts,
    flops_per_ms: Object.fromEntries([...flops].map(([name, list]) => [name, median(list)])),
    memory_bytes_per_ms: memory.length === 0 ? undefined : median(memory),
    link: fitLink(transfers),
  };
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
