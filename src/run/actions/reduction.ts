/** Collectives that a program names: balance statistics, and gradient buckets (slices to owners, summed there, gathered). */
import type { Communicator } from "../../comm/communicator.js";
import { bytesToOthers, fromEach, sliceOf, slicesOf, sliceToEach, toEach } from "../../comm/regions.js";
import type { Group } from "../../program/kinds.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type Services, computing } from "../context.js";
import type { Allocation } from "../memory.js";
import type { Bucket } from "../weights.js";
import type { BalanceStatistics } from "../moe/statistics.js";
import type { RoutingValue } from "./gate.js";

/** Every rank's counts and probability sums to every rank, added in rank order. */
export function bindStatistics({ name, data }: OperatorOf<"statistics">, { world, memory }: Services): Run {
  return (context) => {
    const routings = data.routings.map((value) => context.read<RoutingValue>(value).routing);
    const N = routings[0].classes.count;
    const length = routings.length * 2 * N + 1;
    const send = memory.allocate(length);
    const recv = memory.allocate(length * world.size);
    routings.forEach((routing, i) => {
      send.f32.set(routing.counted, i * 2 * N);
      send.f32.set(routing.probabilitySums, i * 2 * N + N);
    });
    send.f32[length - 1] = routings[0].numTokens;
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
        const summed: BalanceStatistics = {
          counted: part(0),
          probabilitySums: part(1),
          numTokens: total[length - 1],
          pieces: world.size,
        };
        memory.release(send);
        memory.release(recv);
        context.write(data.output, summed, []);
      },
    };
  };
}

/** Replicated parameters are summed over all ranks, experts over the ranks that hold the same experts. */
export function groupOf(bucket: Pick<Bucket, "kind">): Exclude<Group, "ep"> {
  return bucket.kind === "replicated" ? "world" : "replicas";
}

export function bindScatter(op: OperatorOf<"reduce-scatter">, services: Services): Run {
  const { memory } = services;
  const { group, bucket, gradients } = placeOf(op, services);
  const { start, end } = sliceOf(bucket.size, group.rank, group.size);
  return (context) => {
    const slices = memory.allocate((end - start) * group.size);
    const send = slicesOf(gradients, group.size);
    const recv = fromEach(slices.u8, group.size, (end - start) * 4);
    return {
      pending: group.exchange({ label: op.name, send, recv }),
      queue: group,
      bytes: bytesToOthers(send.bytes, group.rank),
      finish: () => context.write(op.data.output, slices, [slices]),
    };
  };
}

export function bindSumSlices(op: OperatorOf<"reduce-sum">, services: Services): Run {
  const { engine } = services;
  const { group, bucket, gradients } = placeOf(op, services);
  const { start, end } = sliceOf(bucket.size, group.rank, group.size);
  const own = gradients.subarray(start, end);
  return computing((context) => {
    const { f32 } = context.read<Allocation>(op.data.input);
    own.set(f32.subarray(0, end - start));
    for (let rank = 1; rank < group.size; rank++)
      engine.routines.addInto(own, f32.subarray(rank * (end - start), (rank + 1) * (end - start)));
  });
}

/** Each rank's slice, in place, to every rank. */
export function bindGather(op: OperatorOf<"all-gather">, services: Services): Run {
  const { group, bucket, gradients } = placeOf(op, services);
  const array = op.data.part === "weights" ? bucket.weights : gradients;
  return () => {
    const send = sliceToEach(array, group.rank, group.size);
    return {
      pending: group.exchange({ label: op.name, send, recv: slicesOf(array, group.size) }),
      queue: group,
      bytes: bytesToOthers(send.bytes, group.rank),
      finish: () => undefined,
    };
  };
}

function placeOf(
  { name, data }: OperatorOf<"reduce-scatter" | "reduce-sum" | "all-gather">,
  services: Services,
): { group: Communicator; bucket: Bucket; gradients: Float32Array } {
  const { gradients } = services;
  if (gradients === undefined) throw new Error(`${name}: this session has no gradients`);
  const bucket = gradients.weights.buckets.find((b) => b.name === data.bucket);
  if (bucket === undefined) throw new Error(`${name}: there is no bucket ${data.bucket}`);
  return { group: services[data.group], bucket, gradients: gradients.bucket(bucket) };
}
