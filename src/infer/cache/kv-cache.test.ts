import { describe, expect, it } from "vitest";
import { philox } from "../../core/rng.js";
import { pageBytes } from "../../core/reserved-memory.js";
import { KvCache } from "./kv-cache.js";
import { type CacheLayer, budgetRows, granuleRows, rowBytes } from "./kv-cache-size.js";
import type { CacheAction } from "../step-plan.js";

/** Unlike layers: keys and values, fewer heads, one compressed vector. */
const LAYERS: readonly CacheLayer[] = [
  { heads: 3, width: 16, tensors: 2 },
  { heads: 1, width: 64, tensors: 2 },
  { heads: 1, width: 72, tensors: 1 },
];

describe("what rows cost", () => {
  it("in bytes, in whole pages, and out of a budget", () => {
    expect(rowBytes(LAYERS)).toBe(4 * (2 * 3 * 16 + 2 * 64 + 72));
    const one = (width: number): CacheLayer => ({ heads: 1, width, tensors: 1 });
    // 4096 bytes: 16 rows of 256, 64 of 320 (five pages), 4 of 1024, 16 of 2304 (nine pages), 1 of 8192.
    expect([64, 80, 256, 576, 2048].map((width) => granuleRows([one(width)], 4096))).toEqual([
      16, 64, 4, 16, 1,
    ]);
    expect(granuleRows(LAYERS, 4096)).toBe(128);
    const granuleBytes = 128 * rowBytes(LAYERS);
    expect(budgetRows(LAYERS, 4096, 3 * granuleBytes - 1)).toBe(256);
    expect(budgetRows(LAYERS, 4096, granuleBytes - 1)).toBe(0);
  });
});

const SLOTS = 4;
const BLOCK_ROWS = 24;

/** What counts no more. */
const UNKNOWN = -1;

/** The same in plain arrays: [tensor][slot][row][head] → a row's elements, told apart by one number. */
class PlainCache {
  readonly rows: number[][][][];
  readonly blocks = new Map<number, number[][][]>();

  constructor(readonly capacity: number) {
    this.rows = LAYERS.flatMap(({ heads, tensors }) =>
      Array.from({ length: tensors }, () =>
        Array.from({ length: SLOTS }, () => Array.from({ length: capacity }, () => filled(heads, 0))),
      ),
    );
  }

  act(action: CacheAction): void {
    for (const [t, slots] of this.rows.entries()) {
      if (action.kind === "move") {
        const { from, to, rows } = action;
        const nothing = (): number[][] => slots[from].map((heads) => filled(heads.length, UNKNOWN));
        const rest = nothing().slice(rows);
        slots[to] = [...slots[from].slice(0, rows), ...rest];
        if (from !== to) slots[from] = nothing();
      } else if (action.kind === "free")
        slots[action.slot] = slots[action.slot].map((heads) => filled(heads.length, 0));
      else if (action.kind === "store") {
        const kept = this.blocks.get(action.block) ?? [];
        this.blocks.set(action.block, kept);
        kept[t] = slots[action.slot].slice(action.start, action.start + BLOCK_ROWS).map((row) => [...row]);
      } else if (action.kind === "load")
        this.blocks
          .get(action.block)
          ?.[t].forEach((row, i) => (slots[action.slot][action.start + i] = [...row]));
    }
    if (action.kind === "drop") this.blocks.delete(action.block);
  }
}

function filled(length: number, value: number): number[] {
  return new Array<number>(length).fill(value);
}

const TENSORS = LAYERS.flatMap(({ tensors }, layer) =>
  (["keys", "values"] as const).slice(0, tensors).map((which) => ({ layer, which })),
);

describe("the cache", () => {
  const newCache = (capacity: number): KvCache =>
    new KvCache({ layers: LAYERS, slots: SLOTS, capacity, blockRows: BLOCK_ROWS });
  const cache = newCache(150);

  it("has slots of whole pages", () => {
    expect(cache.capacity % granuleRows(LAYERS, pageBytes())).toBe(0);
    expect(cache.view(2, "keys", 1, 2).dims).toEqual([2, 1, cache.capacity, 72]);
    expect(() => cache.view(2, "values", 0, 1)).toThrow("layer 2 keeps no values");
    expect(() => cache.view(0, "keys", 3, 2)).toThrow(/slots up to 5 of 4/);
  });

  // Of the longer slots many rows move at once: as pages, where the system can.
  it.each([150, 2048])("does what plain arrays do, for random actions, in slots of %i rows", (rows) => {
    const cache = newCache(rows);
    const plain = new PlainCache(cache.capacity);
    const random = philox(7, "cache");
    let drawn = 0;
    const below = (n: number): number => Math.floor(random.uniform(drawn++) * n);
    let blocks: number[] = [];
    let mark = 0;
    const actions: Record<CacheAction["kind"], () => CacheAction | undefined> = {
      move: () => ({ kind: "move", from: below(SLOTS), to: below(SLOTS), rows: below(cache.capacity + 1) }),
      free: () => ({ kind: "free", slot: below(SLOTS) }),
      store: () => {
        const block = below(1e6);
        if (blocks.includes(block)) return undefined;
        blocks.push(block);
        return { kind: "store", slot: below(SLOTS), start: below(cache.capacity - BLOCK_ROWS + 1), block };
      },
      load: () => {
        const start = below(cache.capacity - BLOCK_ROWS + 1);
        if (blocks.length === 0) return undefined;
        return { kind: "load", slot: below(SLOTS), start, block: blocks[below(blocks.length)] };
      },
      drop: () => {
        if (blocks.length === 0) return undefined;
        const block = blocks[below(blocks.length)];
        blocks = blocks.filter((other) => other !== block);
        return { kind: "drop", block };
      },
    };
    const kinds = Object.keys(actions) as CacheAction["kind"][];
    for (let step = 0; step < 400; step++) {
      // What a kernel does: it appends rows.
      const [slot, row] = [below(SLOTS), below(cache.capacity)];
      TENSORS.forEach(({ layer, which }, t) => {
        const { data, dims } = cache.view(layer, which, slot, 1);
        const [, heads, capacity, width] = dims;
        for (let head = 0; head < heads; head++) {
          plain.rows[t][slot][row][head] = ++mark;
          data.fill(mark, (head * capacity + row) * width, (head * capacity + row + 1) * width);
        }
      });
      const action = actions[kinds[below(kinds.length)]]();
      if (action === undefined) continue;
      cache.apply([action]);
      plain.act(action);
      expect(cache.blocks).toBe(plain.blocks.size);
      if (step % 20 === 0) expect(differences(cache, plain)).toEqual([]);
    }
    expect(differences(cache, plain)).toEqual([]);
  });

  it.each<[CacheAction, RegExp]>([
    [{ kind: "move", from: 0, to: SLOTS, rows: 1 }, /rows 0 to 1 of slot 4, in a cache of 4 slots/],
    [{ kind: "load", slot: 0, start: 0, block: -5 }, /block -5 is not in the store/],
    [{ kind: "drop", block: -5 }, /block -5 is not in the store/],
    [{ kind: "store", slot: 0, start: 1e4, block: -5 }, /rows 10000 to/],
  ])("refuses %o", (action, message) => {
    expect(() => cache.apply([action])).toThrow(message);
  });
});

/** Rows that do not hold what they should, as text. */
function differences(cache: KvCache, plain: PlainCache): string[] {
  return TENSORS.flatMap(({ layer, which }, t) => {
    const { data, dims } = cache.view(layer, which, 0, SLOTS);
    const [, heads, capacity, width] = dims;
    const found: string[] = [];
    for (let index = 0; index < SLOTS * heads * capacity; index++) {
      const [slot, head, row] = [
        Math.floor(index / (heads * capacity)),
        Math.floor(index / capacity) % heads,
        index % capacity,
      ];
      const wanted = plain.rows[t][slot][row][head];
      const [first, last] = [data[index * width], data[index * width + width - 1]];
      if (wanted !== UNKNOWN && (first !== wanted || last !== wanted))
        found.push(`${which} of layer ${layer}, ${slot}/${head}/${row}`);
    }
    return found;
  });
}

describe.runIf(process.platform === "linux")("memory", () => {
  const layers = [{ heads: 8, width: 64, tensors: 2 }] as const;
  const blockRows = 16_384;
  const residentMiB = (): number => process.memoryUsage.rss() / 2 ** 20;
  const newCache = (): KvCache => new KvCache({ layers, slots: 4, capacity: 131_072, blockRows });
  /** 64 MiB in slot 2. */
  const fill = (cache: KvCache): void => {
    for (const which of ["keys", "values"] as const) {
      const { data, dims } = cache.view(0, which, 2, 1);
      const [, heads, capacity, width] = dims;
      for (let head = 0; head < heads; head++)
        data.fill(head + 1, head * capacity * width, (head * capacity + blockRows) * width);
    }
  };

  it("is given back when a slot is freed and a block dropped", () => {
    const cache = newCache();
    const empty = residentMiB();
    fill(cache);
    cache.apply([{ kind: "store", slot: 2, start: 0, block: 1 }]);
    expect(residentMiB() - empty).toBeGreaterThan(120);
    cache.apply([{ kind: "free", slot: 2 }]);
    expect(residentMiB() - empty).toBeLessThan(90);
    cache.apply([{ kind: "drop", block: 1 }]);
    expect(residentMiB() - empty).toBeLessThan(30);
  });

  it("goes with rows that move, and is not taken twice", () => {
    const cache = newCache();
    const empty = residentMiB();
    fill(cache);
    for (const [from, to] of [
      [2, 0],
      [0, 3],
      [3, 1],
    ]) {
      cache.apply([{ kind: "move", from, to, rows: blockRows }]);
      expect(residentMiB() - empty).toBeLessThan(90);
    }
    const { data, dims } = cache.view(0, "values", 1, 1);
    const [, heads, capacity, width] = dims;
    const rowsOf = (head: number): Float32Array =>
      data.subarray(head * capacity * width, (head * capacity + blockRows) * width);
    expect(Array.from({ length: heads }, (_, head) => rowsOf(head).every((x) => x === head + 1))).toEqual(
      new Array(heads).fill(true),
    );
    cache.apply([{ kind: "free", slot: 1 }]);
    expect(residentMiB() - empty).toBeLessThan(30);
  });
});
