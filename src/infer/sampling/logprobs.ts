/** Log probabilities of tokens, as the model itself sees them. */
import { NumericsError } from "../../core/errors.js";
import { finiteArgmax } from "./argmax.js";
import { sharedCandidates } from "./candidates.js";
import { exponential } from "./exponential.js";
import type { TokenLogprob } from "./sampling-parameters.js";

/**
 * Of a token that was chosen, or of the one that follows in a prompt: log softmax in double precision.
 * @param logits [V], of the row before the token
 * @param top so many likeliest ones beside it
 * @param context tokens that the row has seen, for messages
 * @throws NumericsError when logits are not finite
 */
export function tokenLogprob(logits: Float32Array, id: number, top: number, context: number): TokenLogprob {
  const likeliest = finiteArgmax(logits);
  if (likeliest < 0) throw notFinite(context);
  const [largest, own] = [logits[likeliest], logits[id]];
  let sum = 0;
  let rank = 0;
  for (let i = 0; i < logits.length; i++) {
    sum += exponential(logits[i] - largest);
    if (logits[i] > own) rank++;
  }
  const normaliser = largest + Math.log(sum);
  return {
    id,
    logprob: own - normaliser,
    rank,
    top: likeliestOf(logits, top).map(([other, logit]) => [other, logit - normaliser] as const),
  };
}

/** Ids and logits, likeliest first; of equal ones the lowest id. */
function likeliestOf(logits: Float32Array, count: number): (readonly [id: number, logit: number])[] {
  if (count === 0) return [];
  const candidates = sharedCandidates(logits.length);
  candidates.take(logits, count);
  return candidates.sorted();
}

/** @param context tokens that the logits follow */
export function notFinite(context: number): NumericsError {
  return new NumericsError(
    `The logits after ${context} tokens are not finite: the model's weights lead to values that are not`,
  );
}
