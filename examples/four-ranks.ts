/**
 * A job of your own on four ranks: threads of this process, or under `mpirun -n 4` processes on any hosts. Each rank
 * holds a quarter of two vectors; together they work out the dot product, gather a vector and add up an array.
 */
import assert from "node:assert/strict";
import { isMainThread } from "node:worker_threads";
import { allGather, allReduce, defineJob, launch, sumScalars } from "scmoe";

interface DotOptions {
  readonly length: number;
}

/** Every rank imports this module and runs the function with the same options. */
export const dotJob = defineJob(import.meta.url, "dotJob", ({ world, say }, { length }: DotOptions) => {
  const share = length / world.size;
  const mine = Float64Array.from({ length: share }, (_, i) => world.rank * share + i + 1);
  const [dot = NaN] = sumScalars(world, [mine.reduce((sum, x) => sum + x * x, 0)], "dot product");

  const pieces = allGather(world, new Uint8Array(mine.buffer), "gather").wait();
  const whole = pieces.flatMap((bytes) => [...new Float64Array(bytes.buffer)]);

  // What is summed in place lies in memory that ranks can share.
  const array = new Float32Array(new SharedArrayBuffer(4 * length)).fill(world.rank + 1);
  const transfer = allReduce(world, array, "sum");
  // Here a rank would compute: the transfer proceeds beside it.
  transfer.wait();
  say(`rank ${world.rank} of ${world.size} is done`);
  return { dot, whole, sums: [...array] };
});

if (isMainThread) {
  const lines: string[] = [];
  const { result, interrupted } = await launch(
    dotJob,
    { length: 8 },
    {
      ranks: 4,
      deadlineMs: 30_000,
      signal: AbortSignal.timeout(60_000),
      onEvent: ({ line }) => lines.push(line),
    },
  );
  console.log(result);
  assert.equal(result.dot, 204);
  assert.deepEqual(result.whole, [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(result.sums, Array<number>(8).fill(1 + 2 + 3 + 4));
  // Heard from rank 0 only.
  assert.ok(lines.every((line) => line === "rank 0 of 4 is done"));
  assert.equal(interrupted, false);
}
