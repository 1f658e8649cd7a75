/** What a rank remembers of its sequences from step to step: which rows to feed, and what to do with the logits that come of them. */
import { assert } from "../../core/errors.js";
import type { SampledToken, SamplingParameters, TokenLogprob } from "../sampling/sampling-parameters.js";
import type { RankPlan, RankResult, SequenceStart } from "../step-plan.js";

/** Chooses the tokens of one sequence. */
export interface TokenSampler {
  /** Chooses the next token and counts it as written. `logits` [V] are not changed. */
  next(logits: Float32Array): SampledToken;
  /** Counts a token as written that was chosen before now. */
  accept(id: number): void;
}

/** How tokens are chosen, and what is said of those of a prompt. */
export interface Sampling {
  readonly createSampler: (sampling: SamplingParameters, prompt: readonly number[]) => TokenSampler;
  /** @param context tokens that the row has seen */
  readonly tokenLogprob: (logits: Float32Array, id: number, top: number, context: number) => TokenLogprob;
}

/** Rows of one prompt: at positions past … past + ids.length − 1, appended to its slot. */
export interface PrefillRows {
  readonly slot: number;
  readonly past: number;
  readonly ids: readonly number[];
  /** The first row whose logits are wanted, and all after it; ids.length: none. */
  readonly logitsFrom: number;
}

/** One row of each sequence, row i in slot i. */
export interface DecodeRows {
  readonly ids: readonly number[];
  /** Rows that are in the slot already: the position of the new one. */
  readonly pasts: readonly number[];
  /** Whether a token is drawn; of a sequence that is fed old tokens, nobody needs the logits. */
  readonly isDrawn: readonly boolean[];
}

export interface StepRows {
  readonly prefill?: PrefillRows | undefined;
  readonly decode: DecodeRows;
}

/** Logits of a row, [V]: of the prefill's rows, or the decode's. Asked only where they are wanted. */
export interface StepLogits {
  readonly prefill: (row: number) => Float32Array;
  readonly decode: (row: number) => Float32Array;
}

interface Sequence {
  readonly start: SequenceStart;
  readonly sampler: TokenSampler;
  /** Old ones first. */
  readonly written: number[];
  /** Rows in the cache. */
  rows: number;
}

export class RankSequences {
  readonly #sequences = new Map<number, Sequence>();

  constructor(readonly sampling: Sampling) {}

  /** Sequences that are remembered. */
  get size(): number {
    return this.#sequences.size;
  }

  /** Forgets what has ended, hears of what starts. @returns the rows to be fed in this step */
  begin({ ended, starts, prefill, decode }: RankPlan): StepRows {
    for (const id of ended) assert(this.#sequences.delete(id), `sequence ${id} has ended and is not known`);
    for (const start of starts) this.#start(start);
    const sequences = decode.map((id) => this.#known(id));
    return {
      prefill: prefill && {
        slot: prefill.slot,
        past: prefill.start,
        ids: this.#known(prefill.sequence).start.prompt.slice(prefill.start, prefill.end),
        logitsFrom: this.#logitsFrom(prefill),
      },
      decode: {
        ids: sequences.map((sequence) => nextFed(sequence)),
        pasts: sequences.map(({ rows }) => rows),
        isDrawn: sequences.map((sequence) => drawsAfter(sequence, sequence.rows + 1)),
      },
    };
  }

  /** Takes what came of the rows: draws tokens where they are wanted. Called once after each `begin`. */
  end({ prefill, decode }: RankPlan, logits: StepLogits): RankResult {
    const sampled: { sequence: number; token: SampledToken }[] = [];
    const fed = (id: number, rows: number, row: () => Float32Array): void => {
      const sequence = this.#known(id);
      sequence.rows = rows;
      if (!drawsAfter(sequence, rows)) return;
      const token = sequence.sampler.next(row());
      sequence.written.push(token.id);
      sampled.push({ sequence: id, token });
    };
    decode.forEach((id, row) => fed(id, this.#known(id).rows + 1, () => logits.decode(row)));
    if (prefill === undefined) return { sampled };
    const { start, end } = prefill;
    const promptLogprobs = this.#promptLogprobs(prefill, logits.prefill);
    fed(prefill.sequence, end, () => logits.prefill(end - start - 1));
    return { sampled, promptLogprobs };
  }

  #start(start: SequenceStart): void {
    const { sequence: id, prompt, sampling, written } = start;
    assert(!this.#sequences.has(id), `sequence ${id} starts, and is known already`);
    const sampler = this.sampling.createSampler(sampling, prompt);
    for (const token of written) sampler.accept(token);
    this.#sequences.set(id, { start, sampler, written: [...written], rows: 0 });
  }

  #logitsFrom({ sequence: id, start, end }: NonNullable<RankPlan["prefill"]>): number {
    const sequence = this.#known(id);
    if (sequence.start.sampling.promptLogprobs !== undefined) return 0;
    return end - start - (drawsAfter(sequence, end) ? 1 : 0);
  }

  #promptLogprobs(
    { sequence: id, start, end }: NonNullable<RankPlan["prefill"]>,
    logits: StepLogits["prefill"],
  ): TokenLogprob[] | undefined {
    const { prompt, sampling } = this.#known(id).start;
    const top = sampling.promptLogprobs;
    if (top === undefined) return undefined;
    const rows = Math.min(end, prompt.length - 1) - start;
    return Array.from({ length: rows }, (_, row) =>
      this.sampling.tokenLogprob(logits(row), prompt[start + row + 1], top, start + row + 1),
    );
  }

  #known(id: number): Sequence {
    const sequence = this.#sequences.get(id);
    assert(sequence !== undefined, `sequence ${id} is in the plan and not known`);
    return sequence;
  }
}

/** The token of the row that decode feeds now. */
function nextFed({ start: { sequence, prompt }, rows, written }: Sequence): number {
  const at = rows - prompt.length;
  assert(
    at >= 0 && at < written.length,
    `sequence ${sequence} decodes after ${rows} rows, with ${prompt.length} tokens of prompt and ${written.length} written`,
  );
  return written[at];
}

/** Whether so many rows lead to a token that has not been written. */
function drawsAfter({ start: { prompt, sampling }, written }: Sequence, rows: number): boolean {
  return sampling.maxNewTokens > 0 && rows === prompt.length + written.length;
}
