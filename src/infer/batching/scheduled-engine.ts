/** An engine over ranks: steps follow each other while there is work, and between two of them the event loop turns. */
import { setImmediate as turn } from "node:timers/promises";
import { EnvironmentError, InputError } from "../../core/errors.js";
import type { EndReason, InferenceEngine, SequenceListener, SequenceRequest } from "../engine.js";
import { Scheduler, type SequenceEvent } from "./scheduler.js";
import type { StepPlan, StepResult, StepRunner } from "../step-plan.js";

export interface ScheduledEngineOptions {
  /** Closed with the engine. */
  readonly runner: StepRunner;
  readonly vocabSize: number;
  /** Hears of every step after its tokens have been told. If it throws, the engine fails. */
  readonly onStep?: ((plan: StepPlan, result: StepResult) => void) | undefined;
}

/** @throws InputError when the runner's cache holds no sequence */
export function createScheduledEngine({
  runner,
  vocabSize,
  onStep,
}: ScheduledEngineOptions): InferenceEngine {
  const scheduler = new Scheduler(runner.shape);
  const listeners = new Map<number, SequenceListener>();
  const idle: (() => void)[] = [];
  let state: "open" | "draining" | "closed" = "open";
  let lost: Error | undefined;
  let steps: Promise<void> | undefined;
  let closing: Promise<void> | undefined;

  /** Calls a sequence's listener; one that throws ends its own sequence, and no other. */
  function tell(sequence: number, say: (listener: SequenceListener) => void): void {
    const listener = listeners.get(sequence);
    if (listener === undefined) return;
    try {
      say(listener);
    } catch (error) {
      scheduler.end(sequence);
      // It may have been the last thing it was to hear.
      if (listeners.delete(sequence)) quietly(() => listener.failed(asError(error)));
    }
  }

  function tellEnd(sequence: number, reason: EndReason): void {
    tell(sequence, (listener) => {
      listeners.delete(sequence);
      listener.end(reason);
    });
  }

  function tellEvent({ sequence, promptLogprobs, token, end }: SequenceEvent): void {
    let reason = end;
    if (promptLogprobs !== undefined) tell(sequence, (listener) => listener.promptLogprobs?.(promptLogprobs));
    if (token !== undefined)
      tell(sequence, (listener) => {
        if (listener.token(token) !== "stop") return;
        scheduler.end(sequence);
        reason = "stop";
      });
    if (reason !== undefined) tellEnd(sequence, reason);
  }

  async function step(): Promise<boolean> {
    const plan = scheduler.plan();
    if (plan === undefined) return false;
    const result = await runner.run(plan);
    for (const event of scheduler.settle(result)) tellEvent(event);
    onStep?.(plan, result);
    return true;
  }

  async function work(): Promise<void> {
    try {
      do await turn();
      while (await step());
    } catch (error) {
      lost = asError(error);
      for (const [sequence, listener] of [...listeners]) {
        listeners.delete(sequence);
        quietly(() => listener.failed(lost!));
      }
    }
    steps = undefined;
    for (const resolve of idle.splice(0)) resolve();
  }

  function cancel(sequence: number): void {
    const listener = listeners.get(sequence);
    // One that has just ended hears of that instead.
    if (listener === undefined || !scheduler.end(sequence)) return;
    listeners.delete(sequence);
    // Not from within whoever asks.
    queueMicrotask(() => quietly(() => listener.end("cancelled")));
  }

  return {
    contextLength: scheduler.contextLength,
    vocabSize,
    submit(request, listener) {
      if (lost !== undefined)
        throw new EnvironmentError(`The ranks of this engine are lost (${lost.message}); open it again`);
      if (state !== "open") throw new EnvironmentError("The engine takes no more sequences: it is closing");
      checkTokens(request, vocabSize);
      const sequence = scheduler.submit(request);
      listeners.set(sequence, listener);
      steps ??= work();
      return { cancel: () => cancel(sequence) };
    },
    figures: () => scheduler.figures(),
    async drain() {
      if (state === "open") state = "draining";
      if (steps !== undefined) await new Promise<void>((resolve) => idle.push(resolve));
    },
    close() {
      closing ??= (async () => {
        state = "closed";
        for (const sequence of [...listeners.keys()]) cancel(sequence);
        await steps;
        await runner.close();
      })();
      return closing;
    },
  };
}

function checkTokens({ prompt, sampling }: SequenceRequest, vocabSize: number): void {
  const bad = prompt.find((id) => !Number.isSafeInteger(id) || id < 0 || id >= vocabSize);
  if (bad !== undefined)
    throw new InputError(
      `The prompt has token ${bad}; wanted 0 to ${vocabSize - 1}, as the model's vocab_size is ${vocabSize}`,
    );
  const { maxNewTokens } = sampling;
  if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 0)
    throw new InputError(`maxNewTokens is ${maxNewTokens}; wanted a whole number, 0 or more`);
}

function quietly(say: () => void): void {
  try {
    say();
  } catch {
    // There is nobody left to tell.
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
