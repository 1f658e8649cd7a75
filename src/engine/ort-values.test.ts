import { afterEach, expect, it } from "vitest";
import { type OrtApi, ortApi } from "./ort-api.js";
import { OrtValues } from "./ort-values.js";
import { createSharedArena } from "./shared-arena.js";

const api = ortApi();
const opened: OrtValues[] = [];

function ortValues(of = api, most?: number): OrtValues {
  const values = new OrtValues(of, most);
  opened.push(values);
  return values;
}

afterEach(() => {
  for (const values of opened.splice(0)) values.clear();
});

it("are the same for the same address, type and dims, whatever view says so, and others otherwise", () => {
  const values = ortValues();
  const data = createSharedArena(2 ** 16, "values").f32(12);
  const value = values.of({ data, dims: [3, 4] });
  expect(values.of({ data: data.subarray(0), dims: [3, 4] })).toBe(value);
  const ints = new Int32Array(data.buffer, data.byteOffset, 12);
  const others = [
    { data, dims: [4, 3] },
    { data, dims: [12] },
    { data: data.subarray(1), dims: [11] },
    { data: ints, dims: [3, 4] },
  ].map((tensor) => values.of(tensor));
  expect(new Set([value, ...others]).size).toBe(5);
});

it("are given up when there are many, not while a run has them", () => {
  const data = new Float32Array(8);
  let made = 0;
  const counting = Object.create(api) as OrtApi;
  counting.createValue = (...of) => {
    made++;
    return api.createValue(...of);
  };
  const values = ortValues(counting, 2);
  const use = (size: number): bigint => values.of({ data: data.subarray(0, size), dims: [size] });
  [1, 2, 3, 1, 2, 3].forEach(use);
  expect(made).toBe(3);
  values.makeRoom();
  use(1);
  use(1);
  expect(made).toBe(4);
});
