import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { createReferenceEngine } from "../../test/reference/engine.js";
import type { ParameterInfo } from "../model/parts/part.js";
import { ARENA_BYTES, Memory } from "./memory.js";
import { Weights } from "./weights.js";

const engine = createReferenceEngine();
const GIB = 2 ** 30;

describe("activation memory", () => {
  it("goes beyond 4 GiB, arena after arena, and allocations do not overlap", () => {
    const memory = new Memory(engine);
    // Address space only: pages that nobody touches cost nothing.
    const allocations = Array.from({ length: 5 }, () => memory.allocate((1.5 * GIB) / 4));
    allocations.forEach((allocation, i) => {
      allocation.f32[0] = i + 1;
      allocation.f32[allocation.f32.length - 1] = -(i + 1);
    });
    expect(allocations.map((allocation) => [allocation.f32[0], allocation.f32.at(-1)])).toEqual([
      [1, -1],
      [2, -2],
      [3, -3],
      [4, -4],
      [5, -5],
    ]);
    expect(new Set(allocations.map((allocation) => allocation.arena)).size).toBe(3);
    expect(memory.liveBytes).toBe(7.5 * GIB);
    expect(memory.peakBytes).toBe(7.5 * GIB);
    for (const allocation of allocations) memory.release(allocation);
    expect(memory.liveBytes).toBe(0);
    expect(memory.peakBytes).toBe(7.5 * GIB);
  });

  it("is used again: what is released is given out before another arena is made", () => {
    const memory = new Memory(engine, 2 ** 20);
    const arenas = new Set();
    for (let i = 0; i < 100; i++) {
      const allocation = memory.allocate(200_000);
      arenas.add(allocation.arena);
      memory.release(allocation);
    }
    expect(arenas.size).toBe(1);
    expect(memory.peakBytes).toBe(800_000);
  });

  it("takes only a full arena for a full arena: any other error is thrown", () => {
    let arenas = 0;
    const memory = new Memory({
      ...engine,
      newArena(bytes, label) {
        arenas++;
        const arena = engine.newArena(bytes, label);
        arena.tryF32 = () => {
          throw new Error("the arena is broken");
        };
        return arena;
      },
    });
    memory.allocate(10);
    expect(() => memory.allocate(10)).toThrow("the arena is broken");
    expect(arenas).toBe(1);
  });

  it("refuses a single tensor larger than an arena in one line", () => {
    const memory = new Memory(engine);
    expect(() => memory.allocate(ARENA_BYTES / 4 + 1)).toThrow(InputError);
    expect(() => memory.allocate(GIB + 1)).toThrow(
      /^One tensor of 4\.00 GiB is larger than the limit of 4\.00 GiB; use a smaller train\.micro_batch_size/,
    );
  });
});

it("weights larger than an arena are refused by name", () => {
  const huge: ParameterInfo = {
    name: "huge.weight",
    family: "huge.weight",
    dims: [2 ** 11, 2 ** 20],
    init: "zeros",
  };
  expect(() => new Weights(engine, [huge], { epRank: 0, epSize: 1 })).toThrow(
    /huge\.weight \[2048, 1048576\] need 8\.00 GiB in one piece; the limit is 4\.00 GiB/,
  );
});
