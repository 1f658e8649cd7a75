/**
 * Continuous batching: sequences come and go, and every step is made of what there is. Each rank reads one prompt at a time, a chunk per
 * step, and decodes a token of each of its running sequences in the same step. Knows no time, no listeners and no ranks: plans out, results in.
 */
import { InputError, assert } from "../../core/errors.js";
import { contextLengthOf } from "./budget.js";
import { type Candidate, choose } from "./placement.js";
import { RankBatch, type SequenceEvent } from "./rank-batch.js";
import { type Sequence, newSequence } from "./sequence.js";
import type { EngineFigures, SequenceRequest } from "../engine.js";
import type { RankPlan, RunnerShape, StepPlan, StepResult } from "../step-plan.js";

export type { SequenceEvent } from "./rank-batch.js";

type Totals = Omit<EngineFigures, "running" | "waiting" | "cacheUse">;

export class Scheduler {
  /** Tokens that a sequence has at most, prompt and answer together. */
  readonly contextLength: number;
  private readonly ranks: readonly RankBatch[];
  /** Oldest first: what was preempted is older than what has never begun. */
  private readonly waiting: Sequence[] = [];
  private readonly alive = new Map<number, Sequence>();
  private nextId = 0;
  private readonly totals: { -readonly [Key in keyof Totals]: number } = {
    promptTokens: 0,
    newTokens: 0,
    prefixQueriedTokens: 0,
    prefixHitTokens: 0,
    preemptions: 0,
    steps: 0,
  };

  /** @throws InputError when the budget holds no sequence */
  constructor(private readonly shape: RunnerShape) {
    this.contextLength = contextLengthOf(shape);
    this.ranks = Array.from({ length: shape.ranks }, () => new RankBatch(shape));
  }

  /**
   * @returns the sequence's number
   * @throws InputError when the prompt is empty, or leaves no place for an answer where one is wanted
   */
  submit(request: SequenceRequest): number {
    const { prompt, sampling } = request;
    const longest = this.contextLength - Math.min(1, sampling.maxNewTokens);
    if (prompt.length === 0) throw new InputError("The prompt has no tokens; wanted at least one");
    if (prompt.length > longest)
      throw new InputError(
        `The prompt has ${prompt.length} tokens; wanted at most ${longest}, as the context holds ${this.contextLength}, prompt and answer together: shorten it`,
      );
    const sequence = newSequence(this.nextId++, request, this.contextLength);
    this.alive.set(sequence.id, sequence);
    this.waiting.push(sequence);
    return sequence.id;
  }

  /** Ends a sequence, whatever it is in; tokens that are on their way are lost. @returns whether it had not ended before */
  end(id: number): boolean {
    const sequence = this.alive.get(id);
    if (sequence === undefined) return false;
    sequence.over = true;
    this.alive.delete(id);
    const place = this.waiting.indexOf(sequence);
    if (place >= 0) this.waiting.splice(place, 1);
    return true;
  }

  /** The next step, which must be carried out and settled before another is asked for; undefined: there is nothing to do. */
  plan(): StepPlan | undefined {
    for (const rank of this.ranks)
      for (const preempted of rank.tidy()) {
        this.totals.preemptions++;
        const behind = this.waiting.findIndex(({ id }) => id > preempted.id);
        this.waiting.splice(behind < 0 ? this.waiting.length : behind, 0, preempted);
      }
    this.admit();
    const ranks = this.ranks.map((rank) => rank.plan());
    return ranks.every(isEmpty) ? undefined : { ranks };
  }

  /** @returns what sequences are to be told, in order */
  settle(result: StepResult): SequenceEvent[] {
    assert(
      result.ranks.length === this.ranks.length,
      `${result.ranks.length} ranks have answered of ${this.ranks.length}`,
    );
    this.totals.steps++;
    const events = this.ranks.flatMap((rank, index) => rank.settle(result.ranks[index]));
    for (const { sequence, token, end } of events) {
      if (token !== undefined) this.totals.newTokens++;
      if (end !== undefined) this.alive.delete(sequence);
    }
    return events;
  }

  figures(): EngineFigures {
    const { ranks, waiting, totals, shape } = this;
    const sum = (of: (rank: RankBatch) => number): number => ranks.reduce((s, rank) => s + of(rank), 0);
    return {
      ...totals,
      running: sum((rank) => rank.held),
      waiting: waiting.length,
      cacheUse: sum((rank) => rank.sequenceRows) / (shape.budgetRows * shape.ranks),
    };
  }

  /** First come, first served: nobody overtakes one for whom there is no room yet. */
  private admit(): void {
    for (;;) {
      const sequence = this.waiting.at(0);
      if (sequence === undefined) return;
      const chosen = choose(this.candidates(sequence));
      if (chosen === undefined) return;
      this.waiting.shift();
      const first = !sequence.started;
      const loaded = this.ranks[chosen.rank].admit(sequence);
      if (!first) continue;
      const { length } = sequence.prompt;
      this.totals.promptTokens += length;
      if (sequence.sampling.promptLogprobs !== undefined) continue;
      this.totals.prefixQueriedTokens += length;
      this.totals.prefixHitTokens += loaded;
    }
  }

  private candidates(sequence: Sequence): Candidate[] {
    return this.ranks.flatMap((batch, rank) =>
      batch.hasRoomFor(sequence)
        ? [{ rank, prefixRows: batch.prefixRows(sequence), sequenceRows: batch.sequenceRows }]
        : [],
    );
  }
}

function isEmpty({ ended, cache, prefill, decode }: RankPlan): boolean {
  return prefill === undefined && decode.length === 0 && ended.length === 0 && cache.length === 0;
}
