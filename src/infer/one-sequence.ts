/** One sequence over a cache, without an engine around it: rows in, logits of the last one out. */
import type { Tensor } from "../core/tensor.js";
import type { ModelConfig } from "../model/config.js";
import type { BlockCache } from "../model/wires.js";
import type { Schedule } from "../program/schedule.js";
import type { Services } from "../run/context.js";
import { sequential } from "../schedule/sequential.js";
import { CachedForward } from "./cached-forward.js";

export class OneSequence {
  readonly #forward: CachedForward;
  readonly #schedule: Schedule;
  readonly #memory = new Map<string, Tensor<Float32Array>>();
  #rows = 0;

  /** @param capacity rows that it may have at most */
  constructor(
    services: Services,
    config: ModelConfig,
    readonly capacity: number,
  ) {
    const rows = { batch: 1, sequence: capacity };
    this.#forward = new CachedForward(services, config, { capacity, rows, epSize: 1 });
    this.#schedule = sequential(this.#forward.model.program);
  }

  /** Logits of the token that follows what has been read, [V]. */
  read(tokens: readonly number[]): Float32Array {
    const rows = { tokens, past: [this.#rows], wanted: [tokens.length - 1] };
    const run = this.#forward.run(this.#schedule, rows, (block, which) => this.#view(block, which));
    const logits = run.read<Tensor<Float32Array>>(this.#forward.model.output).data.slice();
    run.release();
    this.#rows += tokens.length;
    return logits;
  }

  #view({ layer, heads, width }: BlockCache, which: "keys" | "values"): Tensor<Float32Array> {
    const key = `${layer}.${which}`;
    let view = this.#memory.get(key);
    if (view === undefined) {
      const dims = [1, heads, this.capacity, width];
      view = { data: new Float32Array(heads * this.capacity * width), dims };
      this.#memory.set(key, view);
    }
    return view;
  }
}
