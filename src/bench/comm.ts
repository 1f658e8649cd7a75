/**
 * What a communicator reaches on this machine or these hosts: All-to-All against the link's rate and against memcpy,
 * and whether communication really proceeds beside kernels. It is checked first, and only then timed; phases are
 * interleaved, figures are medians over rounds of the slowest rank.
 */
import { runChecks } from "../comm/checks.js";
import { barrier, broadcastJson, maxScalars } from "../comm/collectives.js";
import type { Communicator, Regions } from "../comm/communicator.js";
import type { Link } from "../comm/link.js";
import { addressOf, copyBytes } from "../core/address.js";
import { nowMs } from "../core/clock.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import type { Engine } from "../engine/engine.js";
import * as k from "../kernel/build.js";
import { type JobContext, defineJob } from "../launch/job.js";
import { median, quantile } from "../core/statistics.js";

export interface CommOptions {
  /** Of one All-to-All, per rank, the part to itself included. */
  readonly bytesPerRank: number;
  readonly rounds: number;
  /** The link between ranks, where it is known (modelled, or shaped). */
  readonly link: Link | null;
  /** How long the All-to-All beside kernels takes on its own; its size follows from the link. */
  readonly overlapMs: number;
}

export interface CommResult {
  readonly kind: Communicator["kind"];
  readonly ranks: number;
  readonly checks: readonly string[];
  readonly link: Link | null;
  readonly allToAll: {
    readonly bytesPerRank: number;
    readonly ms: number;
    /** Bytes that leave a rank, per ms; and their share of the link's rate. */
    readonly bytesPerMs: number;
    readonly shareOfLink: number | null;
    /** All bytes of a rank (its own part included) per ms, beside a memcpy of as many bytes on all ranks at once. */
    readonly movedPerMs: number;
    readonly memcpyPerMs: number;
    readonly shareOfMemcpy: number;
  };
  readonly overlap: {
    readonly bytesPerRank: number;
    readonly computeMs: number;
    readonly communicationMs: number;
    readonly bothMs: number;
    /** Both together ÷ the longer of the two alone; 1 is perfect. */
    readonly ratio: number;
    /** The same of first quartiles: what else runs on the machine only ever adds. */
    readonly undisturbedRatio: number;
    /** Processor time of a rank's process during both, beyond that of the kernels alone. */
    readonly extraCpuMs: number;
  } | null;
}

const WARM_UP_ROUNDS = 2;
/** Without a link an All-to-All is short: several are timed together. */
const REPEATS = 8;
/** Kernels last a little longer than the communication beside them. */
const COMPUTE_RATIO = 45 / 40;

/** @throws Error when the communicator fails a check */
export const commJob = defineJob(import.meta.url, "commJob", run);

function run(context: JobContext, options: CommOptions): CommResult {
  const { world } = context;
  context.progress("checking the communicator");
  const checks = runChecks(world);
  const engine = createOrtEngine();
  try {
    const allToAll = measureAllToAll(context, options);
    // Where no link is known, what was measured stands for it: between hosts there is always one.
    const isLinked = options.link !== null || world.kind === "mpi";
    const bytesPerMs = options.link?.bytesPerMs ?? allToAll.bytesPerMs;
    return {
      kind: world.kind,
      ranks: world.size,
      checks,
      link: options.link,
      allToAll,
      overlap:
        isLinked && world.size > 1 ? measureOverlap(context, engine, { ...options, bytesPerMs }) : null,
    };
  } finally {
    engine.dispose();
  }
}

function measureAllToAll(context: JobContext, options: CommOptions): CommResult["allToAll"] {
  const { world } = context;
  const { link } = options;
  const repeats = link === null && world.kind !== "mpi" ? REPEATS : 1;
  const exchange = evenExchange(world, options.bytesPerRank);
  const [from, to] = [shared(exchange.bytes), shared(exchange.bytes)];
  from.fill(1);
  const times: { exchange: number; memcpy: number }[] = [];
  for (let round = 0; round < WARM_UP_ROUNDS + options.rounds; round++) {
    context.progress(`All-to-All, round ${round + 1}`);
    const ms = {
      exchange: together(world, () => {
        for (let i = 0; i < repeats; i++) exchange.run();
      }),
      memcpy: together(world, () => {
        for (let i = 0; i < REPEATS; i++)
          copyBytes(Number(addressOf(to)), Number(addressOf(from)), exchange.bytes);
      }),
    };
    if (round >= WARM_UP_ROUNDS) times.push({ exchange: ms.exchange / repeats, memcpy: ms.memcpy / REPEATS });
  }
  const ms = median(times.map((t) => t.exchange));
  const bytesPerMs = exchange.leaving / ms;
  const movedPerMs = exchange.bytes / ms;
  const memcpyPerMs = exchange.bytes / median(times.map((t) => t.memcpy));
  return {
    bytesPerRank: exchange.bytes,
    ms,
    bytesPerMs,
    shareOfLink: link === null ? null : bytesPerMs / link.bytesPerMs,
    movedPerMs,
    memcpyPerMs,
    shareOfMemcpy: movedPerMs / memcpyPerMs,
  };
}

function measureOverlap(
  context: JobContext,
  engine: Engine,
  options: CommOptions & { readonly bytesPerMs: number },
): CommResult["overlap"] {
  const { world } = context;
  const leaving = options.bytesPerMs * options.overlapMs;
  const exchange = evenExchange(world, Math.round((leaving * world.size) / (world.size - 1)));
  const compute = kernels(world, engine, options.overlapMs * COMPUTE_RATIO);
  const rounds: { compute: number; communication: number; both: number; extraCpu: number }[] = [];
  for (let round = 0; round < WARM_UP_ROUNDS + options.rounds; round++) {
    context.progress(`All-to-All beside kernels, round ${round + 1}`);
    let cpu = process.cpuUsage();
    const cpuMs = (): number => {
      const { user, system } = process.cpuUsage(cpu);
      cpu = process.cpuUsage();
      return (user + system) / 1e3;
    };
    const computeMs = together(world, compute);
    const computeCpu = cpuMs();
    const communication = together(world, () => exchange.run());
    cpuMs();
    const both = together(world, () => {
      const handle = exchange.start();
      compute();
      handle.wait();
    });
    const extraCpu = cpuMs() - computeCpu;
    if (round >= WARM_UP_ROUNDS) rounds.push({ compute: computeMs, communication, both, extraCpu });
  }
  const of = (key: keyof (typeof rounds)[number], share = 0.5): number =>
    quantile(
      rounds.map((r) => r[key]),
      share,
    );
  const ratio = (share: number): number =>
    of("both", share) / Math.max(of("compute", share), of("communication", share));
  return {
    bytesPerRank: exchange.bytes,
    computeMs: of("compute"),
    communicationMs: of("communication"),
    bothMs: of("both"),
    ratio: ratio(0.5),
    undisturbedRatio: ratio(0.25),
    extraCpuMs: of("extraCpu"),
  };
}

/** Time of the slowest rank, from when all were ready. */
function together(world: Communicator, action: () => void): number {
  barrier(world, "ready").wait();
  const start = nowMs();
  action();
  return maxScalars(world, [nowMs() - start], "time")[0];
}

/** Equal parts to every rank: `bytes` in all, of which `leaving` go to others. */
function evenExchange(world: Communicator, wanted: number) {
  const part = Math.ceil(wanted / world.size / 4) * 4;
  const bytes = part * world.size;
  const everyone = Array.from({ length: world.size }, (_, p) => p);
  const regions = (): Regions => ({
    buffer: shared(bytes).fill(1),
    offsets: everyone.map((p) => p * part),
    bytes: everyone.map(() => part),
  });
  const [send, recv] = [regions(), regions()];
  const start = () => world.exchange({ label: "All-to-All", send, recv });
  return { bytes, leaving: part * (world.size - 1), start, run: () => void start().wait() };
}

/** Matrix products of about `ms` on one thread; the same number on every rank. */
function kernels(world: Communicator, engine: Engine, ms: number): () => void {
  const size = 256;
  const arena = engine.newArena(3 * size * size * 4 + 2 ** 17, "kernels");
  const tensor = () => ({ data: arena.f32(size * size).fill(0.01), dims: [size, size] });
  const y = k.linear(k.input("x", ["T", size]), k.parameter("w", [size, size]));
  const product = engine.compile(k.kernel("product", { y }));
  const bound = { x: tensor(), w: tensor(), y: tensor() };
  const run = (times: number): number => {
    const start = nowMs();
    for (let i = 0; i < times; i++) product.run(bound);
    return nowMs() - start;
  };
  run(50);
  const each = Math.min(...Array.from({ length: 10 }, () => run(20))) / 20;
  const times = broadcastJson(world, Math.max(1, Math.round(ms / each)), 0, "kernels");
  return () => void run(times);
}

function shared(bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(bytes));
}
