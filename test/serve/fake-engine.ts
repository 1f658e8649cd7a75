/** An engine without a model: every token is a function of those before it, and the clock may be turned by hand. */
import { InputError } from "../../src/core/errors.js";
import { philox } from "../../src/core/rng.js";
import type {
  EndReason,
  EngineFigures,
  InferenceEngine,
  SequenceListener,
  SequenceRequest,
  SubmittedSequence,
} from "../../src/infer/engine.js";
import type { TokenLogprob } from "../../src/infer/sampling/sampling-parameters.js";

export interface FakeEngineOptions {
  readonly vocabSize: number;
  readonly contextLength?: number;
  /** Sequences at once. */
  readonly slots?: number;
  /** Tokens of a prompt that a step reads. */
  readonly chunk?: number;
  /** What sequences write, in place of what their tokens say; the last repeats. */
  readonly script?: readonly number[];
  /** Steps are made by `step` only. */
  readonly manual?: boolean;
}

interface Sequence extends SequenceRequest {
  readonly number: number;
  readonly listener: SequenceListener;
  read: number;
  readonly written: number[];
}

export type Phase = "queued" | "prefill" | "decode";

export class FakeEngine implements InferenceEngine {
  readonly vocabSize: number;
  readonly contextLength: number;
  readonly requests: SequenceRequest[] = [];
  readonly cancelled: { readonly sequence: number; readonly phase: Phase }[] = [];
  steps = 0;
  #running: Sequence[] = [];
  #waiting: Sequence[] = [];
  #totals = { promptTokens: 0, newTokens: 0 };
  #isTicking = false;
  #lost: Error | undefined;
  #watchers: (() => void)[] = [];

  constructor(readonly options: FakeEngineOptions) {
    this.vocabSize = options.vocabSize;
    this.contextLength = options.contextLength ?? 256;
  }

  submit(request: SequenceRequest, listener: SequenceListener): SubmittedSequence {
    if (this.#lost !== undefined) throw this.#lost;
    const { length } = request.prompt;
    const longest = this.contextLength - Math.min(1, request.sampling.maxNewTokens);
    if (length === 0 || length > longest) throw new InputError(`A prompt of ${length} tokens`);
    if (request.prompt.some((id) => id < 0 || id >= this.vocabSize)) throw new InputError("Unknown token");
    const sequence: Sequence = { ...request, number: this.requests.length, listener, read: 0, written: [] };
    this.requests.push(request);
    this.#waiting.push(sequence);
    this.#tick();
    this.#tell();
    return { cancel: () => this.#cancel(sequence) };
  }

  /** When the condition holds, looked at after each step, submission and cancellation. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  step(): void {
    this.steps++;
    while (this.#running.length < (this.options.slots ?? 4) && this.#waiting.length > 0)
      this.#running.push(this.#waiting.shift() as Sequence);
    const prefill = this.#running.find(({ read, prompt }) => read < prompt.length);
    const decoding = this.#running.filter(({ read, prompt }) => read === prompt.length);
    for (const sequence of decoding) if (this.#running.includes(sequence)) this.#write(sequence);
    if (prefill !== undefined) {
      const read = Math.min(prefill.prompt.length, prefill.read + (this.options.chunk ?? 16));
      this.#totals.promptTokens += read - prefill.read;
      prefill.read = read;
      if (read === prefill.prompt.length) this.#firstToken(prefill);
    }
    this.#tell();
  }

  /** The ranks are lost. */
  fail(error: Error): void {
    this.#lost = error;
    const all = [...this.#running.splice(0), ...this.#waiting.splice(0)];
    for (const { listener } of all) listener.failed(error);
    this.#tell();
  }

  figures(): EngineFigures {
    return {
      running: this.#running.length,
      waiting: this.#waiting.length,
      cacheUse: this.#running.length / (this.options.slots ?? 4),
      ...this.#totals,
      prefixQueriedTokens: 7,
      prefixHitTokens: 5,
      preemptions: 3,
      steps: this.steps,
    };
  }

  drain(): Promise<void> {
    return this.until(() => this.#running.length + this.#waiting.length === 0);
  }

  close(): Promise<void> {
    for (const sequence of [...this.#running, ...this.#waiting]) this.#cancel(sequence);
    return Promise.resolve();
  }

  #firstToken(sequence: Sequence): void {
    const { prompt, sampling, listener } = sequence;
    const { promptLogprobs } = sampling;
    if (promptLogprobs !== undefined)
      listener.promptLogprobs?.(
        prompt.slice(1).map((id, i) => this.#logprob(prompt.slice(0, i + 1), id, promptLogprobs)),
      );
    if (sampling.maxNewTokens === 0) this.#end(sequence, "length");
    else this.#write(sequence);
  }

  #write(sequence: Sequence): void {
    const { prompt, sampling, written, listener } = sequence;
    const { script } = this.options;
    const context = [...prompt.slice(-2), ...written.slice(-2)];
    const id = script?.[Math.min(written.length, script.length - 1)] ?? this.#choose(context, sequence);
    written.push(id);
    this.#totals.newTokens++;
    const logprob =
      sampling.logprobs === undefined ? undefined : this.#logprob(context, id, sampling.logprobs);
    const answer = listener.token({ id, logprob });
    if (!this.#running.includes(sequence)) return;
    if (answer === "stop" || sampling.stopTokens.includes(id)) this.#end(sequence, "stop");
    else if (written.length >= sampling.maxNewTokens) this.#end(sequence, "length");
  }

  #choose(context: readonly number[], { sampling, written }: Sequence): number {
    const scores = logits(context, this.vocabSize);
    for (const [id, bias] of sampling.logitBias) scores[id] += bias;
    const random = philox(sampling.seed, "fake");
    if (sampling.temperature > 0)
      for (let i = 0; i < scores.length; i++)
        scores[i] -=
          sampling.temperature * Math.log(-Math.log(random.uniform(written.length * 4096 + i) + 1e-9));
    return scores.indexOf(Math.max(...scores));
  }

  #logprob(context: readonly number[], id: number, count: number): TokenLogprob {
    return logprobOf(logits(context, this.vocabSize), id, count);
  }

  #cancel(sequence: Sequence): void {
    const isRunning = this.#running.includes(sequence);
    if (!isRunning && !this.#waiting.includes(sequence)) return;
    const isRead = sequence.read === sequence.prompt.length;
    const phase = !isRunning ? "queued" : isRead ? "decode" : "prefill";
    this.cancelled.push({ sequence: sequence.number, phase });
    this.#end(sequence, "cancelled");
    this.#tell();
  }

  #end(sequence: Sequence, reason: EndReason): void {
    this.#running = this.#running.filter((other) => other !== sequence);
    this.#waiting = this.#waiting.filter((other) => other !== sequence);
    sequence.listener.end(reason);
  }

  #tick(): void {
    if (this.options.manual || this.#isTicking) return;
    this.#isTicking = true;
    setImmediate(() => {
      this.#isTicking = false;
      this.step();
      if (this.#running.length + this.#waiting.length > 0) this.#tick();
    });
  }

  #tell(): void {
    for (const resolve of this.#watchers.splice(0)) resolve();
  }
}

/** Of the next token: a function of the last two. */
function logits(context: readonly number[], vocabSize: number): number[] {
  const [a, b] = [context.at(-2) ?? 0, context.at(-1) ?? 0];
  return Array.from({ length: vocabSize }, (_, id) => {
    let mixed = Math.imul(a + 1, 73_856_093) ^ Math.imul(b + 1, 19_349_663) ^ Math.imul(id + 1, 83_492_791);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
    mixed = Math.imul(mixed ^ (mixed >>> 12), 0x297a2d39);
    return (6 * ((mixed ^ (mixed >>> 15)) >>> 0)) / 2 ** 32;
  });
}

function logprobOf(scores: readonly number[], id: number, count: number): TokenLogprob {
  const total = Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0));
  const order = [...scores.keys()].sort((x, y) => scores[y] - scores[x] || x - y);
  const top = order.slice(0, count).map((other) => [other, scores[other] - total] as const);
  return { id, logprob: scores[id] - total, rank: order.indexOf(id), top };
}
