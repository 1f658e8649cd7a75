/** What routes share: the model, its engine, and the requests that are under way. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { InferenceEngine } from "../infer/engine.js";
import type { ChoiceRequest } from "./choice.js";
import { whenOver } from "./connections.js";
import { ApiError, CLIENT_GONE, apiError, draining, engineLost } from "./errors.js";
import { type Generation, type GenerationReader, startGeneration } from "./generation.js";
import { type Limits, admit } from "./limits.js";
import type { Metrics } from "./metrics.js";
import type { ServedModel } from "./model.js";

export interface Service {
  readonly engine: InferenceEngine;
  readonly model: ServedModel;
  readonly limits: Limits;
  readonly metrics: Metrics;
  /** Why nothing new is taken; undefined: it is. */
  readonly refusal: ApiError | undefined;
  /**
   * Refuses a request before any work is done for it.
   * @param model that it names
   * @param sequences that it asks for
   * @throws ApiError
   */
  admit(model: string | undefined, sequences: number): void;
  /**
   * Carries a request out. It ends early when the client goes, or its time is over, or the server's.
   * @throws ApiError
   */
  generate(
    http: { readonly request: FastifyRequest; readonly reply: FastifyReply },
    choices: readonly ChoiceRequest[],
    reader: GenerationReader,
  ): Promise<void>;
  /** Ends what is under way within the deadline, by itself or not; takes nothing new from now on. */
  drain(deadlineMs: number): Promise<void>;
  /** Resolves when the answers are out, or the time is over. */
  flushed(deadlineMs: number): Promise<void>;
  /** Milliseconds since a request arrived: since this was first asked of it. */
  readonly elapsedMs: (request: FastifyRequest) => number;
  /** What a request has come to, for its line in the log. */
  readonly outcomes: WeakMap<FastifyRequest, Outcome>;
}

export interface Outcome {
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly firstTokenMs?: number | undefined;
  readonly problem?: string | undefined;
}

export function createService(of: {
  readonly engine: InferenceEngine;
  readonly model: ServedModel;
  readonly limits: Limits;
  readonly metrics: Metrics;
  /** The engine has failed: every request from now on is refused. */
  readonly onEngineLost: (cause: unknown) => void;
  /** A bug of ours. */
  readonly onFailure: (request: FastifyRequest, cause: unknown) => void;
}): Service {
  const { engine, model, limits, metrics } = of;
  const outcomes = new WeakMap<FastifyRequest, Outcome>();
  const arrivals = new WeakMap<FastifyRequest, number>();
  const elapsedMs = (request: FastifyRequest): number => {
    const now = performance.now();
    const arrived = arrivals.get(request);
    if (arrived === undefined) arrivals.set(request, now);
    return now - (arrived ?? now);
  };
  /** Requests that are under way, and when their answers are out. */
  const active = new Map<Generation, Promise<void>>();
  let refusal: ApiError | undefined;

  const fail = (error: ApiError): ApiError => {
    if (error.details.code === "engine_lost" && refusal?.details.code !== "engine_lost") {
      refusal = engineLost();
      of.onEngineLost(error.details.cause);
    }
    return error;
  };

  const flushed = async (deadlineMs: number): Promise<void> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, deadlineMs)));
    await Promise.race([late, Promise.all(active.values())]);
    clearTimeout(timer);
  };

  return {
    engine,
    model,
    limits,
    metrics,
    outcomes,
    elapsedMs,
    get refusal() {
      return refusal;
    },
    admit(name, sequences) {
      if (refusal !== undefined) throw refusal;
      checkModel(model, name);
      admit(engine, limits, sequences, metrics.meanSeconds);
    },
    async generate({ request, reply }, choices, reader) {
      const clock = latencies(metrics, () => elapsedMs(request), choices.length);
      const closed = new Promise<void>((resolve) => whenOver(request, reply, resolve));
      let problem: ApiError | undefined;
      const generation = attempt(
        () => startGeneration(engine, choices, reader, clock),
        (error) => fail(apiError(error)),
      );
      active.set(generation, closed);
      void closed.then(() => {
        active.delete(generation);
        generation.cancel(new ApiError(CLIENT_GONE, "The client has gone", { code: "client_gone" }));
      });
      const late = setTimeout(
        () => generation.cancel(tooLate(limits.requestTimeoutMs)),
        Math.max(1, limits.requestTimeoutMs - elapsedMs(request)),
      );
      try {
        await generation.done;
      } catch (error) {
        problem = fail(apiError(error));
        if (problem.status === 500) of.onFailure(request, problem.details.cause);
        throw problem;
      } finally {
        clearTimeout(late);
        clock.close();
        outcomes.set(request, {
          promptTokens: choices.reduce((sum, { prompt }) => sum + prompt.length, 0),
          newTokens: generation.newTokens,
          firstTokenMs: clock.firstTokenMs,
          problem: problem?.details.code,
        });
      }
    },
    async drain(deadlineMs) {
      refusal ??= draining();
      await flushed(deadlineMs);
      for (const generation of [...active.keys()]) generation.cancel(draining());
    },
    flushed,
  };
}

/** @throws ApiError of status 404 when the request names another model */
export function checkModel(model: ServedModel, name: string | undefined): void {
  if (name === undefined || name === model.name) return;
  throw new ApiError(404, `The model "${name}" does not exist; this server has "${model.name}"`, {
    param: "model",
    code: "model_not_found",
  });
}

function attempt<T>(act: () => T, orThrow: (error: unknown) => Error): T {
  try {
    return act();
  } catch (error) {
    throw orThrow(error);
  }
}

const tooLate = (ms: number): ApiError =>
  new ApiError(504, `The request took longer than ${ms / 1e3} s; ask for fewer tokens`, {
    code: "request_timeout",
  });

/** Tells the metrics of each sequence's tokens. */
function latencies(metrics: Metrics, elapsedMs: () => number, choices: number) {
  const last: (number | undefined)[] = new Array<undefined>(choices);
  let left = choices;
  let firstTokenMs: number | undefined;
  return {
    get firstTokenMs() {
      return firstTokenMs;
    },
    token(choice: number) {
      const now = elapsedMs();
      const before = last[choice];
      if (before === undefined) metrics.firstToken(now / 1e3);
      else metrics.nextToken((now - before) / 1e3);
      firstTokenMs ??= now;
      last[choice] = now;
    },
    end(_: number, reason: "stop" | "length") {
      left--;
      metrics.ended(reason, elapsedMs() / 1e3);
    },
    /** What has not ended was given up. */
    close() {
      for (; left > 0; left--) metrics.ended("abort", elapsedMs() / 1e3);
    },
  };
}
