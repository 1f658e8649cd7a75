import { expect, it } from "vitest";
import { reduceScatter } from "./collectives.js";
import { singleCommunicator } from "./single.js";

it("refuses to sum an array that other ranks cannot reach", () => {
  const comm = singleCommunicator();
  expect(() => reduceScatter(comm, new Float32Array(4), "sum")).toThrow(
    /^sum: the array to be summed lies in memory of this thread alone; make it over a SharedArrayBuffer$/,
  );
  const shared = new Float32Array(new SharedArrayBuffer(16)).fill(2);
  expect(reduceScatter(comm, shared, "sum").wait()).toEqual({ start: 0, end: 4 });
  expect([...shared]).toEqual([2, 2, 2, 2]);
});
