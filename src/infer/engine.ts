/** Who asks for tokens, and who hears of them. */
import type { SampledToken, SamplingParameters, TokenLogprob } from "./sampling/sampling-parameters.js";

/** Why a sequence ended. */
export type EndReason = "length" | "stop" | "cancelled";

/** What a sequence's owner hears, in order; never before `submit` has returned. */
export interface SequenceListener {
  /** Once, before the first token, where asked for: of each token of the prompt but the first. */
  promptLogprobs?(tokens: readonly TokenLogprob[]): void;
  /** @returns "stop" to end the sequence with this token (a stop string has been written) */
  token(token: SampledToken): "stop" | undefined;
  end(reason: EndReason): void;
  /** Instead of `end`: the ranks are lost, or this listener has thrown. */
  failed(error: Error): void;
}

export interface SequenceRequest {
  /** At least one token, and room for an answer where one is wanted: the context holds both. */
  readonly prompt: readonly number[];
  /** `maxNewTokens` 0 is allowed: log probabilities of the prompt, and no token. */
  readonly sampling: SamplingParameters;
}

export interface SubmittedSequence {
  /** Ends it, whatever it is in: queued, prefill, decode. Idempotent. */
  cancel(): void;
}

/** Figures of a moment, and totals since the start; a prompt that is read again after a preemption is not counted again. */
export interface EngineFigures {
  /** Sequences in slots, the ones that are being read included. */
  readonly running: number;
  readonly waiting: number;
  /** Share of the cache's budget that sequences take; blocks of prompts kept for others do not count. */
  readonly cacheUse: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly prefixQueriedTokens: number;
  readonly prefixHitTokens: number;
  readonly preemptions: number;
  readonly steps: number;
}

/** Sequences in, tokens out: batches whatever is asked for at the same time. */
export interface InferenceEngine {
  readonly contextLength: number;
  readonly vocabSize: number;
  /** @throws InputError when the prompt is empty, too long or has tokens that the model does not know */
  submit(request: SequenceRequest, listener: SequenceListener): SubmittedSequence;
  figures(): EngineFigures;
  /** Ends when all sequences have; new ones are refused. */
  drain(): Promise<void>;
  /** Cancels what is left, ends the ranks. */
  close(): Promise<void>;
}
