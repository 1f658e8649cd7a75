import { InputError } from "../core/errors.js";

/** One rank's port, both directions alike. */
export interface Link {
  readonly bytesPerMs: number;
  readonly latencyMs: number;
}

const RATE = /^(\d+(?:\.\d+)?)\s*(k|m|g|t)?bit(?:\/s)?$/i;
const TIME = /^(\d+(?:\.\d+)?)\s*(ns|us|ms|s)$/i;
const BITS: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };
const MS: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, ms: 1, s: 1e3 };

/**
 * A link from its rate and latency.
 * @param text "10gbit,20us" (rate, latency) or "10gbit"
 * @throws InputError when it is neither
 */
export function parseLink(text: string): Link {
  const [rate, latency, ...rest] = text.split(",").map((part) => part.trim());
  const bits = rate.match(RATE);
  const time = latency === undefined ? ["", "0", "ms"] : latency.match(TIME);
  if (bits === null || time === null || rest.length > 0 || Number(bits[1]) === 0)
    throw new InputError(`A link is written RATE,LATENCY such as 10gbit,20us; found "${text}"`);
  const bitsPerSecond = Number(bits[1]) * BITS[(bits[2] ?? "").toLowerCase()];
  return { bytesPerMs: bitsPerSecond / 8 / 1e3, latencyMs: Number(time[1]) * MS[time[2].toLowerCase()] };
}

/** A link for people: "1.00 Gbit/s, 50 µs". */
export function formatLink(link: Link): string {
  const bits = link.bytesPerMs * 8e3;
  const rate =
    bits >= 1e9 ? `${(bits / 1e9).toPrecision(3)} Gbit/s` : `${(bits / 1e6).toPrecision(3)} Mbit/s`;
  const { latencyMs } = link;
  const latency =
    latencyMs >= 1 ? `${latencyMs.toPrecision(2)} ms` : `${(latencyMs * 1e3).toPrecision(2)} µs`;
  return `${rate}, ${latency}`;
}
