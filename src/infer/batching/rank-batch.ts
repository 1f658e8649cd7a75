/**
 * What one rank holds, step by step: running sequences in slots 0 … n − 1, the one whose prompt is read in slot n, and a store of blocks. A
 * step is `tidy` (who is over leaves, who does not fit any more leaves, gaps are closed), perhaps `admit`, then `plan`, and `settle` with
 * what the rank has answered.
 */
import { assert } from "../../core/errors.js";
import type { EndReason } from "../engine.js";
import type { SampledToken, TokenLogprob } from "../sampling/sampling-parameters.js";
import type { CacheAction, RankPlan, RankResult, RunnerShape, SequenceStart } from "../step-plan.js";
import { wholeGranules } from "./budget.js";
import { type Block, PrefixStore } from "./prefix-store.js";
import {
  type Sequence,
  chunkEnd,
  loadableChunks,
  startOf,
  stepsToCatchUp,
  write,
  writesNew,
} from "./sequence.js";
import { closeGaps } from "./slots.js";

/** What a step has brought a sequence, to be told in this order. */
export interface SequenceEvent {
  readonly sequence: number;
  readonly promptLogprobs?: readonly TokenLogprob[] | undefined;
  readonly token?: SampledToken | undefined;
  readonly end?: EndReason | undefined;
}

export class RankBatch {
  private running: Sequence[] = [];
  private reading: Sequence | undefined;
  private readonly store: PrefixStore;
  /** The chunk that the last step has computed, until it has been stored. */
  private computed: { readonly sequence: Sequence; readonly index: number } | undefined;
  /** The block of the chunk before the next one to be stored: "none" at a prompt's beginning, undefined when it is not in the store. */
  private tail: Block | "none" | undefined;
  private ended: number[] = [];
  private cache: CacheAction[] = [];
  private starts: SequenceStart[] = [];

  constructor(private readonly shape: RunnerShape) {
    this.store = new PrefixStore(shape.chunk);
  }

  /** Sequences that hold a slot. */
  get held(): number {
    return this.running.length + (this.reading === undefined ? 0 : 1);
  }

  /** Rows that sequences take: of a prompt that is being read, all. */
  get sequenceRows(): number {
    return this.rowsAfter(this.occupants(), 0);
  }

  /** Rows of this prompt that need not be computed here. */
  prefixRows(sequence: Sequence): number {
    const { chunk } = this.shape;
    return this.store.match(sequence.prompt, loadableChunks(sequence, chunk)).length * chunk;
  }

  /**
   * Whether it can begin here now: no other prompt is being read, there is a slot, and there are rows enough, also for what the others
   * write until it has caught up. So a prompt that is begun is read to its end, and what was preempted writes something before it is again.
   */
  hasRoomFor(sequence: Sequence): boolean {
    if (this.reading !== undefined || this.running.length >= this.shape.slots) return false;
    const others = this.rowsAfter(this.running, stepsToCatchUp(sequence, this.shape.chunk));
    const own = Math.min(sequence.prompt.length + sequence.written.length + 1, sequence.maxRows);
    return others + this.granules(own) <= this.shape.budgetRows;
  }

  /** @returns sequences that must wait again, because the budget does not hold the next row of all */
  tidy(): Sequence[] {
    const slots = this.occupants();
    const staying = slots.filter(({ over }) => !over);
    const preempted: Sequence[] = [];
    let needed = this.rowsAfter(staying, 1);
    while (staying.length > 1 && needed > this.shape.budgetRows) {
      const youngest = staying.reduce((a, b) => (a.id > b.id ? a : b));
      assert(youngest !== this.reading, `there is no room for the prompt of sequence ${youngest.id}`);
      staying.splice(staying.indexOf(youngest), 1);
      preempted.push(youngest);
      needed = this.rowsAfter(staying, 1);
    }
    const stays = new Set(staying);
    const source = this.computed?.sequence;
    slots.forEach((sequence, slot) => {
      if (stays.has(sequence)) return;
      this.ended.push(sequence.id);
      if (sequence !== source) this.cache.push({ kind: "free", slot });
    });
    this.dropUntil(needed);
    if (source !== undefined) {
      const slot = slots.indexOf(source);
      const leaves = !stays.has(source);
      this.storeComputed(slot, needed + (leaves ? this.granules(source.rows) : 0));
      if (leaves) this.cache.push({ kind: "free", slot });
    }
    this.close(stays);
    return preempted;
  }

  /** Begins to read a sequence's prompt, from where the store's blocks end. @returns rows that they have */
  admit(sequence: Sequence): number {
    const { chunk } = this.shape;
    const limit = loadableChunks(sequence, chunk);
    this.store.touch(this.store.match(sequence.prompt, limit).at(-1));
    sequence.rows = 0;
    this.reading = sequence;
    // Its own blocks are now the last to be dropped, but if there is no room for them beside it, they are.
    this.dropUntil(this.rowsAfter(this.occupants(), 1));
    const path = this.store.match(sequence.prompt, limit);
    const slot = this.running.length;
    path.forEach(({ id }, index) => this.cache.push({ kind: "load", slot, start: index * chunk, block: id }));
    this.tail = path.at(-1) ?? "none";
    sequence.rows = path.length * chunk;
    sequence.started = true;
    this.starts.push(startOf(sequence));
    return sequence.rows;
  }

  /** What the rank does next. Whoever asks carries it out. */
  plan(): RankPlan {
    const { ended, cache, starts, reading, running } = this;
    [this.ended, this.cache, this.starts] = [[], [], []];
    return {
      ended,
      cache,
      starts,
      prefill: reading && {
        sequence: reading.id,
        slot: running.length,
        start: reading.rows,
        end: chunkEnd(reading, this.shape.chunk),
      },
      decode: running.map(({ id }) => id),
    };
  }

  settle({ sampled, promptLogprobs }: RankResult): SequenceEvent[] {
    const tokens = new Map(sampled.map(({ sequence, token }) => [sequence, token]));
    const events: SequenceEvent[] = [];
    for (const sequence of this.running) {
      sequence.rows++;
      if (!sequence.over) this.tell(sequence, tokens, events);
    }
    if (this.reading !== undefined) this.settlePrefill(this.reading, promptLogprobs, tokens, events);
    return events;
  }

  private settlePrefill(
    sequence: Sequence,
    logprobs: readonly TokenLogprob[] | undefined,
    tokens: ReadonlyMap<number, SampledToken>,
    events: SequenceEvent[],
  ): void {
    const { chunk } = this.shape;
    const start = sequence.rows;
    sequence.rows = chunkEnd(sequence, chunk);
    if (sequence.rows - start === chunk) this.computed = { sequence, index: start / chunk };
    if (sequence.promptLogprobs !== undefined) {
      const wanted = Math.min(sequence.rows, sequence.prompt.length - 1) - start;
      assert(
        wanted === (logprobs ?? []).length,
        `of sequence ${sequence.id}, rows ${start} to ${sequence.rows}, there are ${logprobs?.length ?? "no"} log probabilities; wanted ${wanted}`,
      );
      sequence.promptLogprobs.push(...(logprobs ?? []));
    }
    if (sequence.rows < sequence.prompt.length) return;
    // The slot it is in is the one after the running ones: it runs from now on, where it stands.
    this.reading = undefined;
    this.running.push(sequence);
    if (!sequence.over) this.tell(sequence, tokens, events);
  }

  private tell(sequence: Sequence, tokens: ReadonlyMap<number, SampledToken>, events: SequenceEvent[]): void {
    const { id, promptLogprobs } = sequence;
    sequence.promptLogprobs = undefined;
    let token: SampledToken | undefined;
    let end: EndReason | undefined;
    if (sequence.maxTokens === 0) end = "length";
    else if (writesNew(sequence)) {
      token = tokens.get(id);
      assert(token !== undefined, `no token of sequence ${id} came back from its rank`);
      end = write(sequence, token);
    }
    sequence.over = end !== undefined;
    if (promptLogprobs !== undefined || token !== undefined || end !== undefined)
      events.push({ sequence: id, promptLogprobs, token, end });
  }

  /** Takes up the chunk that was computed last, where the blocks before it are there and the budget holds it beside `needed` rows. */
  private storeComputed(slot: number, needed: number): void {
    const { sequence, index } = this.computed!;
    const { chunk } = this.shape;
    this.computed = undefined;
    if (this.tail === undefined) return;
    const parent = this.tail === "none" ? undefined : this.tail;
    this.tail = this.store.find(parent, sequence.prompt, index);
    if (this.tail !== undefined) return this.store.touch(this.tail);
    // It is of use only with all blocks before it, which are those used last. Where they do not fit together, none is dropped in vain; nor
    // does it build on one that has just been dropped, as that has been for want of room.
    if (needed + (index + 1) * chunk > this.shape.budgetRows) return;
    this.dropUntil(needed + chunk);
    this.tail = this.store.add(parent, sequence.prompt, index);
    this.cache.push({ kind: "store", slot, start: index * chunk, block: this.tail.id });
  }

  /** Drops the blocks used longest ago, until the others fit beside so many rows. */
  private dropUntil(rows: number): void {
    while (rows + this.store.rows > this.shape.budgetRows) {
      const { oldest } = this.store;
      if (oldest === undefined) return;
      this.store.drop(oldest);
      this.cache.push({ kind: "drop", block: oldest.id });
    }
  }

  /** Running ones without gaps, and the one that is being read after them. */
  private close(stays: ReadonlySet<Sequence>): void {
    const before = this.running.length;
    const { occupants, moves } = closeGaps(this.running.map((s) => (stays.has(s) ? s : undefined)));
    for (const { from, to } of moves) this.move(this.running[from], from, to);
    this.running = occupants;
    if (this.reading === undefined) return;
    if (!stays.has(this.reading)) this.reading = undefined;
    else if (occupants.length < before) this.move(this.reading, before, occupants.length);
  }

  private move({ rows }: Sequence, from: number, to: number): void {
    this.cache.push({ kind: "move", from, to, rows }, { kind: "free", slot: from });
  }

  /** In the order of their slots. */
  private occupants(): Sequence[] {
    return this.reading === undefined ? [...this.running] : [...this.running, this.reading];
  }

  /** Rows that these take after so many more steps of decoding. */
  private rowsAfter(sequences: readonly Sequence[], steps: number): number {
    let sum = 0;
    for (const { rows, prompt, maxRows } of sequences)
      sum += this.granules(rows < prompt.length ? prompt.length : Math.min(rows + steps, maxRows));
    return sum;
  }

  private granules(rows: number): number {
    return wholeGranules(rows, this.shape.granule);
  }
}
