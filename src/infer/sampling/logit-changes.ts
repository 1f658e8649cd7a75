/** What a request adds to the model's logits, and takes off them, before anything else: biases and penalties. */
import { InputError } from "../../core/errors.js";
import type { SamplingParameters } from "./sampling-parameters.js";

/**
 * In the order of vLLM: biases, the repetition penalty (of tokens in the prompt or written), then what frequency and presence
 * (of tokens written alone) take off.
 */
export class LogitChanges {
  /** Tokens that penalties touch, and how often each has been written. */
  readonly #ids: number[] = [];
  readonly #written: number[] = [];
  readonly #places = new Map<number, number>();

  constructor(
    readonly parameters: SamplingParameters,
    prompt: readonly number[],
  ) {
    if (parameters.repetitionPenalty !== 1) for (const id of prompt) this.#placeOf(id);
  }

  /** Counts a token as written. */
  accept(id: number): void {
    this.#written[this.#placeOf(id)]++;
  }

  /** @param changed [V]; overwritten with the changed logits */
  apply(logits: Float32Array, changed: Float32Array): void {
    const { logitBias, repetitionPenalty, presencePenalty, frequencyPenalty } = this.parameters;
    changed.set(logits);
    for (const [id, bias] of logitBias) changed[id] += bias;
    for (let i = 0; i < this.#ids.length; i++) {
      const id = this.#ids[i];
      let logit = changed[id];
      if (repetitionPenalty !== 1) logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      const times = this.#written[i];
      if (times > 0) logit -= times * frequencyPenalty + presencePenalty;
      changed[id] = logit;
    }
  }

  #placeOf(id: number): number {
    let place = this.#places.get(id);
    if (place === undefined) {
      this.#places.set(id, (place = this.#ids.length));
      this.#ids.push(id);
      this.#written.push(0);
    }
    return place;
  }
}

/**
 * Undefined: the parameters change nothing.
 * @throws InputError when a bias is of a token that there is not, or no number
 */
export function logitChanges(
  parameters: SamplingParameters,
  prompt: readonly number[],
  vocabSize: number,
): LogitChanges | undefined {
  const { logitBias, repetitionPenalty, presencePenalty, frequencyPenalty } = parameters;
  for (const [id, bias] of logitBias) {
    if (!Number.isSafeInteger(id) || id < 0 || id >= vocabSize)
      throw new InputError(`A logit bias is of token ${id}; the model's vocab_size is ${vocabSize}`);
    if (Number.isNaN(bias) || bias === Infinity)
      throw new InputError(`The logit bias of token ${id} is ${bias}; wanted a number, or -Infinity`);
  }
  const isNone =
    logitBias.length === 0 && repetitionPenalty === 1 && presencePenalty === 0 && frequencyPenalty === 0;
  return isNone ? undefined : new LogitChanges(parameters, prompt);
}
