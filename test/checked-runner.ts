/**
 * A runner without a model: it carries plans out on slots and blocks of token ids, as ranks do on keys and values, and throws where a real
 * cache would hold the wrong rows, or none. A token is a function of all tokens before it.
 */
import type {
  SampledToken,
  SamplingParameters,
  TokenLogprob,
} from "../src/infer/sampling/sampling-parameters.js";
import type {
  CacheAction,
  PrefillChunk,
  RankPlan,
  RankResult,
  RunnerShape,
  SequenceStart,
  StepPlan,
  StepResult,
  StepRunner,
} from "../src/infer/step-plan.js";

export const VOCAB = 50;

/** The token after these. */
export function nextToken(tokens: readonly number[]): SampledToken {
  let hash = 2166136261;
  for (const token of tokens) hash = Math.imul(hash ^ (token + 1), 16777619) >>> 0;
  return { id: (hash >>> 8) % VOCAB };
}

export function logprobOf(tokens: readonly number[], id: number): TokenLogprob {
  return { id, logprob: -nextToken([...tokens, id]).id, rank: 0, top: [] };
}

/** What a sequence writes with nobody beside it. */
export function aloneTokens(
  prompt: readonly number[],
  { maxNewTokens, stopTokens }: SamplingParameters,
  contextLength: number,
): number[] {
  const tokens = [...prompt];
  const limit = Math.min(contextLength, prompt.length + maxNewTokens);
  while (tokens.length < limit) {
    const { id } = nextToken(tokens);
    tokens.push(id);
    if (stopTokens.includes(id)) break;
  }
  return tokens.slice(prompt.length);
}

interface Slot {
  rows: number[];
  /** Rows whose memory has been touched since it was given back. */
  touched: number;
}

/** One rank's cache and what it knows of sequences. */
class CheckedRank {
  private readonly slots: Slot[];
  private readonly blocks = new Map<number, number[]>();
  private readonly sequences = new Map<number, { start: SequenceStart; tokens: number[]; rows: number }>();

  constructor(private readonly shape: RunnerShape) {
    this.slots = Array.from({ length: shape.slots }, () => ({ rows: [], touched: 0 }));
  }

  get isEmpty(): boolean {
    return this.sequences.size === 0 && this.slots.every(({ touched }) => touched === 0);
  }

  run(plan: RankPlan): RankResult {
    for (const id of plan.ended) check(this.sequences.delete(id), `sequence ${id} ended, but is not known`);
    plan.cache.forEach((action, index) => {
      this.act(action);
      // A move holds two copies until the next action frees one.
      if (action.kind !== "move") this.checkBudget(`after action ${index}`);
      else check(plan.cache[index + 1]?.kind === "free", "a move without freeing the old slot");
    });
    for (const start of plan.starts) {
      check(!this.sequences.has(start.sequence), `sequence ${start.sequence} started twice`);
      this.sequences.set(start.sequence, { start, tokens: [...start.prompt, ...start.written], rows: -1 });
    }
    check(plan.decode.length + (plan.prefill ? 1 : 0) === this.sequences.size, "a sequence is left out");
    const sampled: { sequence: number; token: SampledToken }[] = [];
    plan.decode.forEach((id, slot) => this.decode(id, slot, sampled));
    const promptLogprobs = plan.prefill && this.prefill(plan.prefill, plan.decode.length, sampled);
    this.slots.forEach(({ touched }, slot) =>
      check(touched === 0 || slot < this.sequences.size, `slot ${slot} is nobody's, and not freed`),
    );
    this.checkBudget("after the step");
    return { sampled, promptLogprobs };
  }

  private act(action: CacheAction): void {
    const { chunk, budgetRows } = this.shape;
    if (action.kind === "drop") return check(this.blocks.delete(action.block), `no block ${action.block}`);
    if (action.kind === "free") {
      const slot = this.slot(action.slot);
      check(slot.touched > 0, `slot ${action.slot} is freed twice`);
      [slot.rows, slot.touched] = [[], 0];
      return;
    }
    if (action.kind === "move") {
      const [from, to] = [this.slot(action.from), this.slot(action.to)];
      check(to.touched === 0, `slot ${action.to} is not empty`);
      check(from.rows.length === action.rows, `a move of ${action.rows} rows of ${from.rows.length}`);
      [to.rows, to.touched] = [[...from.rows], action.rows];
      return;
    }
    const { block, start } = action;
    const { rows } = this.slot(action.slot);
    check(start % chunk === 0, `a block from row ${start}`);
    check(block >= 0 && block < budgetRows / chunk, `block ${block} is beyond the budget`);
    if (action.kind === "store") {
      check(!this.blocks.has(block), `block ${block} is stored twice`);
      check(start + chunk <= rows.length, `block ${block} is stored before it was computed`);
      this.blocks.set(block, rows.slice(start, start + chunk));
    } else {
      const stored = this.blocks.get(block);
      check(stored !== undefined, `block ${block} is loaded, but not there`);
      check(rows.length === start, `a block at row ${start} of a slot with ${rows.length}`);
      this.feed(action.slot, stored);
    }
  }

  private decode(id: number, slot: number, sampled: { sequence: number; token: SampledToken }[]): void {
    const sequence = this.known(id);
    const { start, tokens } = sequence;
    this.checkRows(id, slot, sequence.rows);
    check(sequence.rows >= start.prompt.length, `sequence ${id} decodes before its prompt was read`);
    check(sequence.rows < tokens.length, `sequence ${id} has no token to be fed`);
    this.feed(slot, [tokens[sequence.rows++]]);
    this.sample(id, sampled);
  }

  private prefill(
    { sequence: id, slot, start, end }: PrefillChunk,
    running: number,
    sampled: { sequence: number; token: SampledToken }[],
  ): TokenLogprob[] | undefined {
    const sequence = this.known(id);
    const { prompt, sampling } = sequence.start;
    // What is there when it starts has been loaded.
    if (sequence.rows < 0) sequence.rows = this.slot(slot).rows.length;
    check(slot === running, `prefill in slot ${slot} beside ${running} running`);
    check(start === sequence.rows && start % this.shape.chunk === 0, `a chunk from row ${start}`);
    check(end === Math.min(start + this.shape.chunk, prompt.length) && end > start, `a chunk to row ${end}`);
    this.checkRows(id, slot, start);
    this.feed(slot, prompt.slice(start, end));
    sequence.rows = end;
    if (end === prompt.length && sampling.maxNewTokens > 0) this.sample(id, sampled);
    if (sampling.promptLogprobs === undefined) return undefined;
    const told: TokenLogprob[] = [];
    for (let row = start; row < Math.min(end, prompt.length - 1); row++)
      told.push(logprobOf(prompt.slice(0, row + 1), prompt[row + 1]));
    return told;
  }

  private sample(id: number, sampled: { sequence: number; token: SampledToken }[]): void {
    const { tokens, rows } = this.known(id);
    if (rows < tokens.length) return;
    const token = nextToken(tokens);
    tokens.push(token.id);
    sampled.push({ sequence: id, token });
  }

  private feed(slot: number, tokens: readonly number[]): void {
    const into = this.slot(slot);
    into.rows.push(...tokens);
    into.touched = Math.max(into.touched, into.rows.length);
    check(into.rows.length <= this.shape.capacity, `${into.rows.length} rows in slot ${slot}`);
  }

  /** The slot holds exactly the sequence's own first rows. */
  private checkRows(id: number, slot: number, count: number): void {
    const { tokens } = this.known(id);
    const { rows } = this.slot(slot);
    check(rows.length === count, `slot ${slot} has ${rows.length} rows, sequence ${id} ${count}`);
    const wrong = rows.findIndex((token, row) => token !== tokens[row]);
    check(wrong < 0, `slot ${slot} has another token than sequence ${id} in row ${wrong}`);
  }

  private checkBudget(when: string): void {
    const { granule, chunk, budgetRows } = this.shape;
    let used = this.blocks.size * chunk;
    for (const { touched } of this.slots) used += Math.ceil(touched / granule) * granule;
    check(used <= budgetRows, `${used} rows ${when}; the budget is ${budgetRows}`);
  }

  private slot(index: number): Slot {
    check(index >= 0 && index < this.slots.length, `slot ${index} of ${this.slots.length}`);
    return this.slots[index];
  }

  private known(id: number): { start: SequenceStart; tokens: number[]; rows: number } {
    const sequence = this.sequences.get(id);
    if (sequence === undefined) throw new Error(`The plan is wrong: sequence ${id} is not known`);
    return sequence;
  }
}

export class CheckedRunner implements StepRunner {
  private readonly ranks: readonly CheckedRank[];
  closed = false;

  constructor(readonly shape: RunnerShape) {
    this.ranks = Array.from({ length: shape.ranks }, () => new CheckedRank(shape));
  }

  /** No rank knows of a sequence, or holds memory for one. */
  get isEmpty(): boolean {
    return this.ranks.every((rank) => rank.isEmpty);
  }

  run({ ranks }: StepPlan): StepResult {
    check(!this.closed, "a step after the end");
    check(ranks.length === this.shape.ranks, `${ranks.length} ranks`);
    return {
      ranks: ranks.map((plan, index) => this.ranks[index].run(plan)),
      times: { prefillMs: 0, decodeMs: 0, exposedMs: 0, communicationMs: 0 },
    };
  }

  close(): void {
    this.closed = true;
  }
}

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`The plan is wrong: ${what}`);
}
