/** Collectives that a program names: balance statistics, and gradient buckets (slices to owners, summed there, gathered). */
import type { Communicator } from "../../comm/communicator.js";
import { bytesToOthers, fromEach, sliceOf, slicesOf, sliceToEach, toEach } from "../../comm/slots.js";
import type * as K from "../../program/kinds.js";
import type { Operator } from "../../program/operator.js";
import type { NetworkJob, RunContext } from "../context.js";
import type { Block } from "../memory.js";
import type { Bucket } from "../parameter-store.js";
import type { GlobalStatistics, RoutingValue } from "./gate.js";

/** Every rank's first choices, loads and probability sums to every rank, added in rank order. */
export function runStatistics(op: Operator, context: RunContext): NetworkJob {
  const data = op.data as K.StatisticsData;
  const routings = data.routings.map((value) => context.read<RoutingValue>(value).routing);
  const N = routings[0].numExperts;
  const length = routings.length * 3 * N + 1;
  const { world } = context;
  const send = context.memory.allocate(length);
  const recv = context.memory.allocate(length * world.size);
  routings.forEach((routing, i) => {
    send.f32.set(routing.firstChoices, i * 3 * N);
    send.f32.set(routing.load, i * 3 * N + N);
    send.f32.set(routing.probabilitySums, i * 3 * N + 2 * N);
  });
  send.f32[length - 1] = routings[0].numTokens;
  const pending = world.exchange({
    label: op.name,
    send: toEach(send.u8, world.size, length * 4),
    recv: fromEach(recv.u8, world.size, length * 4),
  });
  return {
    pending,
    bytes: length * 4 * (world.size - 1),
    finish() {
      const total = new Float32Array(length);
      for (let rank = 0; rank < world.size; rank++)
        for (let i = 0; i < length; i++) total[i] += recv.f32[rank * length + i];
      const part = (which: number) =>
        routings.map((_, i) => total.slice(i * 3 * N + which * N, i * 3 * N + (which + 1) * N));
      const summed: GlobalStatistics = {
        firstChoices: part(0),
        load: part(1),
        probabilitySums: part(2),
        numTokens: total[length - 1],
      };
      context.memory.release(send);
      context.memory.release(recv);
      context.write(data.output, summed, []);
    },
  };
}

/** Replicated parameters are summed over all ranks, experts over the ranks that hold the same experts. */
export function reductionGroup(
  bucket: Bucket,
  context: Pick<RunContext, "world" | "replicas">,
): Communicator {
  return bucket.kind === "replicated" ? context.world : context.replicas;
}

export function runReduce(op: Operator, context: RunContext): NetworkJob | undefined {
  const data = op.data as K.ReduceData;
  const bucket = context.parameters.buckets.find((b) => b.name === data.bucket);
  if (bucket === undefined) throw new Error(`${op.name}: there is no bucket ${data.bucket}`);
  const group = reductionGroup(bucket, context);
  switch (data.phase) {
    case "scatter":
      return scatter(op, data, bucket, group, context);
    case "sum":
      sumSlices(data, bucket, group, context);
      return undefined;
    case "gather":
      return gather(op.name, group, bucket.gradients);
  }
}

function scatter(
  op: Operator,
  data: K.ReduceData,
  bucket: Bucket,
  group: Communicator,
  context: RunContext,
): NetworkJob {
  const { start, end } = sliceOf(bucket.size, group.rank, group.size);
  const block = context.memory.allocate((end - start) * group.size);
  const send = slicesOf(bucket.gradients, group.size);
  const recv = fromEach(block.u8, group.size, (end - start) * 4);
  return {
    pending: group.exchange({ label: op.name, send, recv }),
    bytes: bytesToOthers(send.bytes, group.rank),
    finish: () => context.write(data.output as number, block, [block]),
  };
}

function sumSlices(data: K.ReduceData, bucket: Bucket, group: Communicator, context: RunContext): void {
  const { f32 } = context.read<Block>(data.input as number);
  const { start, end } = sliceOf(bucket.size, group.rank, group.size);
  const own = bucket.gradients.subarray(start, end);
  own.set(f32.subarray(0, end - start));
  for (let rank = 1; rank < group.size; rank++)
    context.engine.routines.addInto(own, f32.subarray(rank * (end - start), (rank + 1) * (end - start)));
}

/** Each rank's slice of an array, in place, to every rank. */
export function gather(label: string, group: Communicator, array: Float32Array): NetworkJob {
  const send = sliceToEach(array, group.rank, group.size);
  const recv = slicesOf(array, group.size);
  return {
    pending: group.exchange({ label, send, recv }),
    bytes: bytesToOthers(send.bytes, group.rank),
    finish: () => undefined,
  };
}
