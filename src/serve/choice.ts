/** One sequence as its reader gets it: pieces of text, the tokens that belong to each, and why it ended. */
import type { EndReason, SequenceListener } from "../infer/engine.js";
import type { SamplingParameters } from "../infer/sampling-parameters.js";
import type { Echo } from "./echo.js";
import { type ApiError, draining, engineLost } from "./errors.js";
import type { SequenceText } from "./sequence-text.js";
import type { WrittenToken } from "./written-token.js";

/** A piece of a choice. Pieces in a row hold all of its text and all of its tokens, those that end it included. */
export interface ChoicePiece {
  readonly text: string;
  readonly tokens: readonly WrittenToken[];
}

export interface ChoiceEnd {
  readonly finishReason: "length" | "stop";
  /** The stop string, or the token among those that the client named; null where the model ended by itself. */
  readonly stopReason: string | number | null;
}

export interface ChoiceRequest {
  readonly prompt: readonly number[];
  readonly sampling: SamplingParameters;
  readonly text: SequenceText;
  /** Tokens of `sampling.stopTokens` that the client has named. */
  readonly namedStops: ReadonlySet<number>;
  /** The prompt, where the answer is to begin with it. */
  readonly echo?: Echo | undefined;
}

export interface ChoiceReader {
  token(): void;
  piece(piece: ChoicePiece): void;
  end(end: ChoiceEnd): void;
  failed(error: ApiError): void;
}

/** Turns what the engine says of a sequence into pieces. */
export function readChoice(request: ChoiceRequest, reader: ChoiceReader): SequenceListener {
  const { text, echo, namedStops } = request;
  const stopTokens = new Set(request.sampling.stopTokens);
  const base = echo?.length ?? 0;
  let written = echo?.text ?? "";
  let tokens: WrittenToken[] = [...(echo?.tokens ?? [])];
  let stopReason: string | number | null = null;
  const emit = (): void => {
    if (written === "" && tokens.length === 0) return;
    const piece = { text: written, tokens };
    written = "";
    tokens = [];
    reader.piece(piece);
  };
  return {
    promptLogprobs(logprobs) {
      tokens = tokens.map((token, i) => (i === 0 ? token : { ...token, logprob: logprobs[i - 1] }));
    },
    token({ id, logprob }) {
      reader.token();
      tokens.push({ id, offset: base + text.length, logprob });
      // What ends a text is no part of it.
      if (stopTokens.has(id)) {
        if (namedStops.has(id)) stopReason = id;
        return undefined;
      }
      written += text.add(id);
      if (text.stop !== undefined) {
        stopReason = text.stop;
        return "stop";
      }
      if (written !== "") emit();
      return undefined;
    },
    end(reason) {
      const finishReason = finish(reason);
      if (finishReason === undefined) return reader.failed(draining());
      written += text.end();
      emit();
      // A stop string may be complete only with what was held back.
      stopReason ??= text.stop ?? null;
      reader.end({ finishReason: text.stop === undefined ? finishReason : "stop", stopReason });
    },
    failed: (error) => reader.failed(engineLost(error)),
  };
}

/** Undefined: the engine gave it up. */
function finish(reason: EndReason): ChoiceEnd["finishReason"] | undefined {
  return reason === "cancelled" ? undefined : reason;
}
