import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { checkMemory, memoryNeed } from "./memory-need.js";

const GB = 1e9;
const PARTS = { weights: GB, gradients: GB, moments: 2 * GB, activations: 3 * GB, graphBytes: 0, base: 0 };
/** 7 GB a rank, 14 GB beside what a process holds once. */
const NEED = memoryNeed(PARTS, { ranks: 2, worstActivations: 3 * GB });
const host = (bytes: number, processes = 1) => ({
  processes,
  available: { bytes, source: "available on this machine" },
  residentBytes: GB / 10,
});

describe("memory that a run needs", () => {
  it("is said in one line, by rank and in all", () => {
    expect(checkMemory(NEED, host(20 * GB))).toBe(
      "Memory per rank: weights 1.00 GB, gradients 1.00 GB, moments 2.00 GB, activations 3.00 GB: 7.00 GB; 2 ranks need 14.12 GB of 20.10 GB available on this machine",
    );
  });

  it("is refused with the figures where it is not there, unless that is to be ignored", () => {
    expect(() => checkMemory(NEED, host(13 * GB))).toThrow(InputError);
    expect(() => checkMemory(NEED, host(13 * GB))).toThrow(
      /^2 ranks need 14\.12 GB memory: weights 1\.00 GB, .* each; 13\.10 GB are available on this machine\. Use a smaller model.*--ignore-memory/,
    );
    expect(checkMemory(NEED, host(13 * GB), { ignoreMemory: true })).toMatch(/which is too little$/);
  });

  it("counts what the process holds already, and the other processes of the run on the host", () => {
    expect(() => checkMemory(NEED, host(14.02 * GB))).not.toThrow();
    const alone = memoryNeed(PARTS, { ranks: 1, worstActivations: 3 * GB });
    expect(() => checkMemory(alone, host(15 * GB, 2))).not.toThrow();
    expect(() => checkMemory(alone, host(15 * GB, 3))).toThrow(/^3 ranks need 21\.34 GB memory/);
  });

  it("has a bound where rows may all go to one rank, which is said and does not refuse", () => {
    const uneven = memoryNeed(PARTS, { ranks: 2, worstActivations: 10 * GB });
    expect(checkMemory(uneven, host(15 * GB))).toMatch(
      /were all rows routed to one rank, 7\.00 GB more on it$/,
    );
  });

  it("is advised about by what is most", () => {
    const active = memoryNeed({ ...PARTS, activations: 30 * GB }, { ranks: 1, worstActivations: 0 });
    expect(() => checkMemory(active, host(GB))).toThrow(/smaller train\.micro_batch_size/);
    const reading = memoryNeed({ ...PARTS, gradients: 0, moments: 0 }, { ranks: 1, worstActivations: 0 });
    expect(() => checkMemory(reading, host(GB))).toThrow(/fewer or shorter sequences/);
  });
});
