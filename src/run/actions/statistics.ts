import { fromEach, toEach } from "../../comm/regions.js";
import type { OperatorOf } from "../../program/operator.js";
import type { Run, Services } from "../context.js";
import type { BalanceStatistics } from "../moe/statistics.js";
import type { Routing } from "../moe/routing.js";
import type { RoutingValue } from "./gate.js";

/** Every rank's counts and probability sums, over its micro-batches, to every rank; added in rank order. */
export function bindStatistics({ name, data }: OperatorOf<"statistics">, { world, memory }: Services): Run {
  return (context) => {
    const routings = data.routings.map((ofMicroBatches) =>
      ofMicroBatches.map((value) => context.read<RoutingValue>(value).routing),
    );
    const N = routings[0][0].classes.count;
    const length = routings.length * 2 * N + 1;
    const send = memory.allocate(length);
    const recv = memory.allocate(length * world.size);
    routings.forEach((ofMicroBatches, i) => {
      send.f32.set(summed(ofMicroBatches, "counted", N), i * 2 * N);
      send.f32.set(summed(ofMicroBatches, "probabilitySums", N), i * 2 * N + N);
    });
    send.f32[length - 1] = routings[0].reduce((tokens, { numTokens }) => tokens + numTokens, 0);
    const pending = world.exchange({
      label: name,
      send: toEach(send.u8, world.size, length * 4),
      recv: fromEach(recv.u8, world.size, length * 4),
    });
    return {
      pending,
      queue: world,
      bytes: length * 4 * (world.size - 1),
      finish() {
        const total = new Float32Array(length);
        for (let rank = 0; rank < world.size; rank++)
          for (let i = 0; i < length; i++) total[i] += recv.f32[rank * length + i];
        const part = (which: number) =>
          routings.map((_, i) => total.slice((i * 2 + which) * N, (i * 2 + which + 1) * N));
        const statistics: BalanceStatistics = {
          counted: part(0),
          probabilitySums: part(1),
          numTokens: total[length - 1],
          pieces: world.size * routings[0].length,
        };
        memory.release(send);
        memory.release(recv);
        context.write(data.output, statistics, []);
      },
    };
  };
}

/** In the order of the micro-batches, in f64. */
function summed(
  routings: readonly Routing[],
  of: "counted" | "probabilitySums",
  length: number,
): ArrayLike<number> {
  if (routings.length === 1) return routings[0][of];
  const sum = new Float64Array(length);
  for (const routing of routings) for (let i = 0; i < length; i++) sum[i] += routing[of][i];
  return sum;
}
