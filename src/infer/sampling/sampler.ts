/** Chooses the tokens of one sequence, one after the other. */
import { InputError, assert } from "../../core/errors.js";
import { type Random, philox } from "../../core/rng.js";
import { argmax, finiteArgmax } from "./argmax.js";
import { sharedCandidates } from "./candidates.js";
import { type LogitChanges, logitChanges } from "./logit-changes.js";
import { notFinite, tokenLogprob } from "./logprobs.js";
import type { SampledToken, SamplingParameters } from "./sampling-parameters.js";

/**
 * In the order that vLLM documents: biases and penalties on the model's own logits; the likeliest token, or temperature, min-p, top-k,
 * top-p, each among what the one before has left, and a draw from the rest. O(V) for each token: nothing is sorted. Of equally
 * likely tokens those with the lowest ids are kept. A drawn number is a function of the seed and of the number of tokens
 * written so far alone.
 */
export class Sampler {
  readonly #changes: LogitChanges | undefined;
  readonly #random: Random;
  readonly #promptLength: number;
  #written = 0;

  /**
   * @param prompt ids below `vocabSize`
   * @throws InputError when a logit bias is of a token that there is not, or no number
   */
  constructor(
    readonly parameters: SamplingParameters,
    prompt: readonly number[],
    readonly vocabSize: number,
  ) {
    this.#changes = logitChanges(parameters, prompt, vocabSize);
    this.#promptLength = prompt.length;
    this.#random = philox(parameters.seed, "sampling");
    for (const id of parameters.writtenBefore ?? []) this.accept(id);
  }

  /** Tokens written so far. */
  get written(): number {
    return this.#written;
  }

  /**
   * Chooses the next token and counts it as written.
   * @param logits [V], of the row of the last token; not changed
   * @throws NumericsError when they are not finite; InputError when biases rule out every token
   */
  next(logits: Float32Array): SampledToken {
    assert(logits.length === this.vocabSize, `${logits.length} logits for ${this.vocabSize} tokens`);
    const id = this.#choose(logits);
    const { logprobs } = this.parameters;
    const context = this.#context;
    this.accept(id);
    return logprobs === undefined ? { id } : { id, logprob: tokenLogprob(logits, id, logprobs, context) };
  }

  /** Counts a token as written that was not drawn now: a sequence that was preempted is fed what it had written. */
  accept(id: number): void {
    this.#changes?.accept(id);
    this.#written++;
  }

  get #context(): number {
    return this.#promptLength + this.#written;
  }

  #choose(own: Float32Array): number {
    const { temperature, topK, topP, minP } = this.parameters;
    let likeliest = finiteArgmax(own);
    if (likeliest < 0) throw notFinite(this.#context);
    let logits = own;
    if (this.#changes !== undefined) {
      logits = changedLogits(this.vocabSize);
      this.#changes.apply(own, logits);
      likeliest = argmax(logits);
      if (logits[likeliest] === Infinity) throw notFinite(this.#context);
      if (logits[likeliest] === -Infinity)
        throw new InputError("The logit biases rule out every token; wanted at least one that may come next");
    }
    if (temperature === 0 || topK === 1) return likeliest;
    const candidates = sharedCandidates(this.vocabSize);
    candidates.take(logits, topK);
    candidates.weigh(logits[likeliest], temperature);
    // What min-p leaves out is less likely than all that it keeps: it may as well come behind top-k.
    if (minP > 0) candidates.keepAtLeast(minP);
    if (topP < 1) candidates.keepNucleus(topP);
    return candidates.at(this.#random.uniform(this.#written));
  }
}

let changed = new Float32Array(0);

/** A buffer of this thread: what is in it does not outlive the choice of a token. */
function changedLogits(vocabSize: number): Float32Array {
  if (changed.length < vocabSize) changed = new Float32Array(vocabSize);
  return changed.subarray(0, vocabSize);
}
