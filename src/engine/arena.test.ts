/** Only a full arena sends an allocation elsewhere; whatever else goes wrong in one is not hidden. */
import { afterAll, expect, it } from "vitest";
import * as k from "../kernel/build.js";
import type { Arena } from "./arena.js";
import { inOneMemory, spareArena } from "./one-memory.js";
import { createOrtEngine } from "./ort-engine.js";

const engine = createOrtEngine();
afterAll(() => engine.dispose());

const broken = (): never => {
  throw new Error("the arena is broken");
};

/** A kernel of three stages: its routine reads what a graph makes. */
const staged = k.kernel("staged", {
  y: k.exp(k.geluGrad(k.exp(k.input("x", ["T", 8])), k.exp(k.input("d", ["T", 8])))),
});

/** The kernel's tensors, in an arena with room for `spareElements` more. */
function bindings(arena: Arena, spareElements: number) {
  const tensor = () => ({ data: arena.f32(64).fill(0.5), dims: [8, 8] });
  const bound = { x: tensor(), d: tensor(), y: tensor() };
  arena.f32((arena.capacityBytes - arena.liveBytes) / 4 - spareElements);
  return bound;
}

it("what a full arena has no room for, try… says with undefined and the others with an error", () => {
  const arena = engine.newArena(2 ** 16, "small");
  expect(arena.tryF32(2 ** 14 + 1)).toBeUndefined();
  expect(arena.tryU8(2 ** 16 + 1)).toBeUndefined();
  expect([arena.liveBytes, arena.peakBytes]).toEqual([0, 0]);
  expect(() => arena.f32(2 ** 14 + 1)).toThrow(
    'Arena "small" has no 65600 bytes in one piece (65536 of 65536 free)',
  );
  expect(arena.tryF32(2 ** 14)?.length).toBe(2 ** 14);
  expect(arena.tryU8(1)).toBeUndefined();
});

it("stages hand values on in the spare arena when their own is full", () => {
  const results = [1024, 0].map((spareElements) => {
    const bound = bindings(engine.newArena(2 ** 16, "home"), spareElements);
    engine.compile(staged).run(bound);
    return bound.y.data;
  });
  expect(results[1]).toEqual(results[0]);
  expect(spareArena().liveBytes).toBe(0);
});

it("stages pass on any other error, and leave nothing behind", () => {
  const arena = engine.newArena(2 ** 16, "home");
  const bound = bindings(arena, 1024);
  const live = arena.liveBytes;
  const good = arena.tryF32.bind(arena);
  let calls = 0;
  arena.tryF32 = (n) => (++calls === 2 ? broken() : good(n));
  expect(() => engine.compile(staged).run(bound)).toThrow("the arena is broken");
  expect([calls, arena.liveBytes]).toEqual([2, live]);
});

it("routines copy into the spare arena when the first is full, and pass on any other error", () => {
  const [arena, other] = [engine.newArena(2 ** 16, "one"), engine.newArena(2 ** 16, "other")];
  const [out, a, b] = [arena.f32(64), arena.f32(64).fill(1), other.f32(16).fill(2)];
  const add = () => inOneMemory([out, a, b], [0], (w, [to, x, y]) => void w.add(to, x, y, 16));
  const room = arena.f32((arena.capacityBytes - arena.liveBytes) / 4);
  add();
  expect([...out.subarray(0, 16)]).toEqual(new Array(16).fill(3));
  expect(spareArena().liveBytes).toBe(0);
  arena.free(room);
  const live = arena.liveBytes;
  arena.tryU8 = broken;
  expect(add).toThrow("the arena is broken");
  expect(arena.liveBytes).toBe(live);
});
