import { BOUNDS, type Bound, checkBounds, fits } from "../core/bounds.js";
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

const BIT_PER_S = 1 / 8e3;
const LINK_BOUNDS: Readonly<Record<keyof Link, Bound>> = {
  bytesPerMs: { from: BIT_PER_S, to: 1e15 * BIT_PER_S },
  latencyMs: BOUNDS.latencyMs,
};

/**
 * A link from its rate and latency.
 * @param text "10gbit,20us" (rate, latency) or "10gbit"
 * @throws InputError when it is neither
 */
export function parseLink(text: string): Link {
  const [rate, latency, ...rest] = text.split(",").map((part) => part.trim());
  const [, number, prefix = ""] = rate.match(RATE) ?? [];
  const [, time, unit] = (latency ?? "0ms").match(TIME) ?? [];
  const link = {
    bytesPerMs: Number(number) * BITS[prefix.toLowerCase()] * BIT_PER_S,
    latencyMs: Number(time) * MS[unit?.toLowerCase() ?? "ms"],
  };
  if (
    rest.length > 0 ||
    !fits(link.bytesPerMs, LINK_BOUNDS.bytesPerMs) ||
    !fits(link.latencyMs, LINK_BOUNDS.latencyMs)
  )
    throw new InputError(
      `A link is written RATE,LATENCY such as 10gbit,20us, from 1bit to 1000tbit and from 0ms to 60s; found "${text}"`,
    );
  return link;
}

/** @throws InputError naming what is beyond its bounds */
export function checkLink(link: Link): void {
  checkBounds("link", link, LINK_BOUNDS);
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
