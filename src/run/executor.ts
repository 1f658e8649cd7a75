/**
 * Runs a program in the order of a schedule. Compute operators run one at a time on the calling thread; network
 * operators are started as soon as they head their stream and their inputs exist, and progress by themselves. The
 * thread stands still only when its next compute operator needs a transfer that has not arrived: that time is the
 * exposed communication.
 */
import { InputError, assert } from "../core/errors.js";
import { nowMs } from "../core/clock.js";
import type { Tensor } from "../core/tensor.js";
import { numElements } from "../core/tensor.js";
import { type Operator, STREAMS } from "../program/operator.js";
import { type Program, dependencies } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { whyIllegal } from "../program/validate.js";
import type { ExposedInterval, TimelineEvent } from "../timeline/timeline.js";
import type { Action, Held, NetworkJob, RunContext } from "./context.js";
import type { Block } from "./memory.js";

/** A program with a schedule, compiled for repeated runs. */
export interface Plan {
  readonly program: Program;
  readonly schedule: Schedule;
  readonly actions: Readonly<Record<string, Action>>;
  /** Values whose content is still wanted after the run. */
  readonly keep: ReadonlySet<number>;
}

export interface RunResult {
  /** Content of a kept value; valid until `release`. */
  read<T>(value: number): T;
  release(): void;
  readonly events: readonly TimelineEvent[];
  readonly exposed: readonly ExposedInterval[];
  readonly startMs: number;
  readonly endMs: number;
}

export type Services = Omit<RunContext, "read" | "tensor" | "write" | "writeTensor" | "share">;

interface InFlight {
  readonly op: Operator;
  readonly job: NetworkJob;
  readonly issuedMs: number;
}

/**
 * @param feeds contents of the program's input values
 * @throws InputError when the schedule is not legal for the program, with the reason
 * @throws CommError when a peer is late or lost; the message names the operator this rank waited in
 */
export function execute(plan: Plan, services: Services, feeds: ReadonlyMap<number, unknown>): RunResult {
  return new Execution(plan, services).run(feeds);
}

interface Wiring {
  readonly waitsFor: readonly (readonly number[])[];
  readonly readers: readonly number[];
}

const wirings = new WeakMap<Plan, Wiring>();

function wiringOf(plan: Plan): Wiring {
  let wiring = wirings.get(plan);
  if (wiring === undefined) {
    const reason = whyIllegal(plan.program, plan.schedule);
    if (reason !== undefined)
      throw new InputError(`The schedule ${plan.schedule.policy} is not legal: ${reason}`);
    const waitsFor = dependencies(plan.program).map((ids) => [...ids]);
    for (const [before, after] of plan.schedule.edges) waitsFor[after].push(before);
    const readers = new Array<number>(plan.program.values.length).fill(0);
    for (const op of plan.program.operators) for (const value of new Set(op.reads)) readers[value]++;
    for (const value of plan.keep) readers[value]++;
    wirings.set(plan, (wiring = { waitsFor, readers }));
  }
  return wiring;
}

class Execution {
  readonly #wiring: Wiring;
  readonly #readersLeft: number[];
  readonly #held = new Map<number, Held>();
  readonly #done: Uint8Array;
  readonly #next = { compute: 0, network: 0, storage: 0 };
  readonly #inFlight: InFlight[] = [];
  readonly #context: RunContext;
  readonly #events: TimelineEvent[] = [];
  readonly #exposed: ExposedInterval[] = [];
  readonly #startMs = nowMs();

  constructor(
    readonly plan: Plan,
    readonly services: Services,
  ) {
    this.#wiring = wiringOf(plan);
    this.#readersLeft = [...this.#wiring.readers];
    this.#done = new Uint8Array(plan.program.operators.length);
    this.#context = this.#makeContext();
  }

  run(feeds: ReadonlyMap<number, unknown>): RunResult {
    for (const [value, content] of feeds) this.#held.set(value, { content, blocks: [] });
    const { order } = this.plan.schedule;
    const total = STREAMS.reduce((sum, stream) => sum + order[stream].length, 0);
    assert(total === this.plan.program.operators.length, "the schedule has every operator of the program");
    for (;;) {
      this.#collectArrived();
      this.#startTransfers();
      const id = order.compute[this.#next.compute];
      if (id === undefined && this.#inFlight.length === 0) break;
      if (id !== undefined && this.#isReady(id)) {
        this.#next.compute++;
        this.#compute(this.plan.program.operators[id]);
      } else this.#waitForFirst(id);
    }
    assert(this.#next.network === order.network.length, "every transfer was started");
    return {
      read: <T>(value: number) => this.#context.read<T>(value),
      release: () => {
        for (const value of [...this.#held.keys()]) this.#drop(value);
      },
      events: this.#events,
      exposed: this.#exposed,
      startMs: this.#startMs,
      endMs: nowMs(),
    };
  }

  #isReady(id: number): boolean {
    for (const before of this.#wiring.waitsFor[id]) if (this.#done[before] === 0) return false;
    return true;
  }

  #compute(op: Operator): void {
    const start = nowMs();
    const job = this.plan.actions[op.kind](op, this.#context);
    assert(job === undefined, `compute operator ${op.name} started a transfer`);
    this.#finish(op, { startMs: start, endMs: nowMs() });
  }

  #startTransfers(): void {
    const queue = this.plan.schedule.order.network;
    while (this.#next.network < queue.length && this.#isReady(queue[this.#next.network])) {
      const op = this.plan.program.operators[queue[this.#next.network++]];
      const start = nowMs();
      const job = this.plan.actions[op.kind](op, this.#context);
      if (job === undefined) this.#finish(op, { startMs: start, endMs: nowMs(), bytes: 0 });
      else this.#inFlight.push({ op, job, issuedMs: nowMs() });
    }
  }

  /** Transfers that have arrived already cost nothing to collect. They finish in the order they were started. */
  #collectArrived(): void {
    while (this.#inFlight.length > 0 && this.#inFlight[0].job.pending.done)
      this.#arrive(this.#inFlight.shift() as InFlight);
  }

  #waitForFirst(next: number | undefined): void {
    const first = this.#inFlight.shift();
    assert(first !== undefined, "something is in flight whenever the next operator cannot start");
    const start = nowMs();
    this.#arrive(first);
    const end = nowMs();
    const waitingFor = next === undefined ? "the end of the step" : this.plan.program.operators[next].name;
    this.#exposed.push({
      rank: this.services.world.rank,
      waitingFor,
      startMs: start - this.#startMs,
      endMs: end - this.#startMs,
    });
  }

  #arrive({ op, job, issuedMs }: InFlight): void {
    const result = job.pending.wait();
    job.finish(result);
    const { startMs, endMs } = result;
    this.#finish(op, { startMs, endMs, bytes: job.bytes, issuedMs });
  }

  /** Start and end on the machine's clock. */
  #finish(op: Operator, ran: Pick<TimelineEvent, "startMs" | "endMs" | "bytes" | "issuedMs">): void {
    this.#done[op.id] = 1;
    this.#events.push({
      rank: this.services.world.rank,
      stream: op.stream,
      operator: op.id,
      name: op.name,
      cost: op.cost,
      pass: op.pass,
      layer: op.layer,
      bytes: ran.bytes,
      ...(ran.issuedMs === undefined ? {} : { issuedMs: ran.issuedMs - this.#startMs }),
      startMs: ran.startMs - this.#startMs,
      endMs: ran.endMs - this.#startMs,
    });
    for (const value of new Set(op.reads)) if (--this.#readersLeft[value] === 0) this.#drop(value);
    for (const value of op.writes) if (this.#readersLeft[value] === 0) this.#drop(value);
  }

  #drop(value: number): void {
    const held = this.#held.get(value);
    if (held === undefined) return;
    for (const block of held.blocks) this.services.memory.release(block);
    this.#held.delete(value);
  }

  #makeContext(): RunContext {
    const held = this.#held;
    const { program } = this.plan;
    const { memory } = this.services;
    const read = <T>(value: number): T => {
      const found = held.get(value);
      assert(found !== undefined, `value ${program.values[value].name} is alive`);
      return found.content as T;
    };
    const write = (value: number, content: unknown, blocks: readonly Block[]): void => {
      held.set(value, { content, blocks });
    };
    return {
      ...this.services,
      read,
      write,
      tensor: (value) => read<Tensor<Float32Array>>(value),
      writeTensor: (value, dims) => {
        const block = memory.allocate(numElements(dims));
        const tensor = { data: block.f32, dims };
        write(value, tensor, [block]);
        return tensor;
      },
      share: (value) => {
        const blocks = held.get(value)?.blocks ?? [];
        for (const block of blocks) block.references++;
        return blocks;
      },
    };
  }
}
