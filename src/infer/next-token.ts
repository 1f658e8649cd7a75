/** Logits of the token that follows a context: the whole context is computed anew. */
import type { Tensor } from "../core/tensor.js";
import { type ModelProgram, buildProgram } from "../model/language-model.js";
import type { Schedule } from "../program/schedule.js";
import type { Rank } from "../run/rank.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { notFinite } from "./sampling/logprobs.js";

/** One session for contexts of any length: attention reads the rows' positions. */
export class NextToken {
  readonly #model: ModelProgram;
  readonly #session: Session;
  readonly #schedule: Schedule;

  constructor(readonly rank: Rank) {
    const sequence = rank.config.max_position_embeddings;
    this.#model = buildProgram(rank.config, {
      batch: 1,
      sequence,
      epSize: 1,
      head: "logits",
      anyLength: true,
    });
    this.#session = new Session(rank, this.#model.program, { keep: [this.#model.output] });
    this.#schedule = sequential(this.#model.program);
  }

  /** Of the token that follows, [V]. @throws NumericsError when they are not finite */
  logits(context: readonly number[]): Float32Array {
    const dims = [context.length];
    const feeds = new Map<number, unknown>([
      [this.#model.tokens, { data: Int32Array.from(context), dims }],
      [this.#model.positions as number, { data: Int32Array.from(context.keys()), dims }],
    ]);
    const run = this.#session.run(this.#schedule, feeds);
    const { data } = run.read<Tensor<Float32Array>>(this.#model.output);
    const last = Float32Array.from(data.subarray(-this.rank.config.vocab_size));
    run.release();
    if (!last.every(Number.isFinite)) throw notFinite(context.length);
    return last;
  }
}
