/**
 * One run of a program in the order of a schedule. Compute operators run one at a time on the calling thread; operators
 * of the other streams are started as soon as they head their stream and their inputs exist, and progress by themselves.
 * The thread stands still only when its next compute operator needs something that has not arrived.
 */
import { assert } from "../core/errors.js";
import { nowMs } from "../core/clock.js";
import { type Tensor, numElements } from "../core/tensor.js";
import { waitAny } from "../comm/wait-any.js";
import { type Operator, STREAMS } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { Stepper, stepsOf } from "../program/stepper.js";
import type { EventOperator, ExposedInterval, TimelineEvent } from "../timeline/timeline.js";
import type { Held, Run, RunContext, Services, Transfer } from "./context.js";
import type { Allocation } from "./memory.js";

export interface RunResult {
  readonly program: Program;
  readonly schedule: Schedule;
  /** Content of a kept value; valid until `release`. */
  read<T>(value: number): T;
  release(): void;
  readonly events: readonly TimelineEvent[];
  readonly exposed: readonly ExposedInterval[];
  readonly startMs: number;
  readonly endMs: number;
}

/** What a session has bound once for all its runs. */
export interface Bound {
  readonly program: Program;
  readonly services: Services;
  /** By operator id. */
  readonly runs: readonly Run[];
  /** What events say of each operator, and the values that it reads, each once; by operator id. */
  readonly labels: readonly EventOperator[];
  readonly reads: readonly (readonly number[])[];
  /** Operators that read each value, and one more for values that are kept, by value id. */
  readonly numReaders: readonly number[];
  readonly state: ReadonlyMap<number, Held>;
}

interface InFlight {
  readonly op: Operator;
  readonly transfer: Transfer;
  readonly issuedMs: number;
}

const OTHER_STREAMS = STREAMS.filter((stream) => stream !== "compute");

export class Execution {
  readonly #stepper: Stepper;
  readonly #readersLeft: number[];
  readonly #held: Map<number, Held>;
  /** Transfers under way, oldest first, by what they queue at: those of one communicator arrive in order, others do not wait for them. */
  readonly #queues = new Map<object, InFlight[]>();
  readonly #context: RunContext;
  readonly #events: TimelineEvent[] = [];
  readonly #exposed: ExposedInterval[] = [];
  readonly #startMs = nowMs();

  constructor(
    readonly bound: Bound,
    readonly schedule: Schedule,
  ) {
    this.#stepper = new Stepper(stepsOf(bound.program, schedule));
    this.#readersLeft = [...bound.numReaders];
    this.#held = new Map(bound.state);
    this.#context = this.#makeContext();
  }

  run(feeds: ReadonlyMap<number, unknown>): RunResult {
    for (const [value, content] of feeds) this.#held.set(value, { content, allocations: [] });
    const stepper = this.#stepper;
    for (;;) {
      this.#collectArrived();
      for (const stream of OTHER_STREAMS)
        for (let id = stepper.startable(stream); id !== undefined; id = stepper.startable(stream))
          this.#start(this.bound.program.operators[id]);
      const id = stepper.startable("compute");
      if (id !== undefined) this.#start(this.bound.program.operators[id]);
      else if (this.#queues.size === 0) break;
      else this.#waitForAny();
    }
    assert(stepper.isDone, "every operator has run");
    return {
      program: this.bound.program,
      schedule: this.schedule,
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

  #start(op: Operator): void {
    const startMs = nowMs();
    this.#stepper.start(op.id);
    const transfer = this.bound.runs[op.id](this.#context);
    if (transfer === undefined)
      return this.#finish(op, { startMs, endMs: nowMs(), bytes: op.stream === "network" ? 0 : undefined });
    assert(op.stream !== "compute", `compute operator ${op.name} left something under way`);
    const flight = { op, transfer, issuedMs: nowMs() };
    const queue = this.#queues.get(transfer.queue);
    if (queue === undefined) this.#queues.set(transfer.queue, [flight]);
    else queue.push(flight);
  }

  /** Transfers that have arrived already cost nothing to collect. */
  #collectArrived(): void {
    for (const queue of this.#queues.values())
      while (queue.length > 0 && queue[0].transfer.pending.done) this.#arrive(queue);
  }

  #waitForAny(): void {
    const queues = [...this.#queues.values()];
    assert(queues.length > 0, "something is under way whenever the next operator cannot start");
    const startMs = nowMs();
    const { world } = this.bound.services;
    const arrived = waitAny(
      queues.map(([{ transfer }]) => transfer.pending),
      world.deadlineMs,
    );
    this.#arrive(queues[arrived]);
    const next = this.#stepper.head("compute");
    this.#exposed.push({
      rank: world.rank,
      waitingFor: next === undefined ? "the end of the step" : this.bound.program.operators[next].name,
      startMs: startMs - this.#startMs,
      endMs: nowMs() - this.#startMs,
    });
  }

  /** The oldest of a queue. */
  #arrive(queue: InFlight[]): void {
    const { op, transfer, issuedMs } = queue.shift() as InFlight;
    if (queue.length === 0) this.#queues.delete(transfer.queue);
    const result = transfer.pending.wait();
    transfer.finish(result);
    const { startMs, endMs } = result;
    this.#finish(op, { startMs, endMs, bytes: transfer.bytes, issuedMs });
  }

  /** Start and end on the machine's clock. */
  #finish(op: Operator, ran: Pick<TimelineEvent, "startMs" | "endMs" | "bytes" | "issuedMs">): void {
    this.#stepper.finish(op.id);
    const { services, labels, reads } = this.bound;
    this.#events.push({
      rank: services.world.rank,
      ...labels[op.id],
      bytes: ran.bytes,
      ...(ran.issuedMs === undefined ? {} : { issuedMs: ran.issuedMs - this.#startMs }),
      startMs: ran.startMs - this.#startMs,
      endMs: ran.endMs - this.#startMs,
    });
    for (const value of reads[op.id]) if (--this.#readersLeft[value] === 0) this.#drop(value);
    for (const value of op.writes) if (this.#readersLeft[value] === 0) this.#drop(value);
  }

  #drop(value: number): void {
    const held = this.#held.get(value);
    if (held === undefined) return;
    for (const allocation of held.allocations) this.bound.services.memory.release(allocation);
    this.#held.delete(value);
  }

  #makeContext(): RunContext {
    const held = this.#held;
    const { program, services } = this.bound;
    const { memory } = services;
    const read = <T>(value: number): T => {
      const found = held.get(value);
      assert(found !== undefined, `value ${program.values[value].name} is alive`);
      return found.content as T;
    };
    const write = (value: number, content: unknown, allocations: readonly Allocation[]): void => {
      held.set(value, { content, allocations });
    };
    return {
      read,
      write,
      tensor: (value) => read<Tensor<Float32Array>>(value),
      writeTensor: (value, dims) => {
        const allocation = memory.allocate(numElements(dims));
        const tensor = { data: allocation.f32, dims };
        write(value, tensor, [allocation]);
        return tensor;
      },
      hold: (value) => {
        const allocations = held.get(value)?.allocations ?? [];
        for (const allocation of allocations) allocation.references++;
        return allocations;
      },
    };
  }
}
