import { expect, it } from "vitest";
import { onRanks } from "../../test/on-ranks.js";
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

it("agrees key by key: what differs is named with both values, and nothing else", async () => {
  const told = await onRanks(
    2,
    `c.agree(comm, { version: "1", train: { steps: 100, betas: [0.9, 0.95] } });
     c.agree(comm, { train: { steps: 100 + 100 * comm.rank, ...(comm.rank === 1 ? { more: 1 } : {}) } });`,
  );
  const error =
    "Ranks disagree on train.steps: rank 0 has 100, rank 1 has 200; start all ranks with the same";
  expect(told).toEqual([{ error }, { error }]);
  const missing = await onRanks(2, `c.agree(comm, { train: comm.rank === 1 ? { more: 1 } : {} });`);
  expect(missing[0]).toEqual({
    error: expect.stringMatching(/^Ranks disagree on train\.more: rank 0 has nothing, rank 1 has 1;/),
  });
});
