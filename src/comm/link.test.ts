import { expect, it } from "vitest";
import { formatLink, parseLink } from "./link.js";

it("reads links, and refuses what is none", () => {
  expect(parseLink("10gbit,20us")).toEqual({ bytesPerMs: 1.25e6, latencyMs: 0.02 });
  expect(parseLink("400mbit")).toEqual({ bytesPerMs: 5e4, latencyMs: 0 });
  for (const text of [
    "",
    "fast",
    "0gbit",
    "1gbit,2",
    "1gbit,2us,3",
    "0.5bit",
    "2000tbit",
    `${"9".repeat(400)}bit`,
    "1gbit,-5us",
    "1gbit,61s",
  ])
    expect(() => parseLink(text)).toThrow(/10gbit,20us/);
});

it("says a link in words", () => {
  expect(formatLink(parseLink("10gbit,20us"))).toBe("10.0 Gbit/s, 20 µs");
  expect(formatLink(parseLink("1mbit,50ms"))).toBe("1.00 Mbit/s, 50 ms");
});
