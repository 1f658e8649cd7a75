/** One sequence as its reader gets it: pieces of text, the tokens that belong to each, and why it ended. */
import type { EndReason, SequenceListener } from "../infer/engine.js";
import type { SampledToken, SamplingParameters } from "../infer/sampling/sampling-parameters.js";
import { type TextPiece, WrittenText } from "../infer/text/written-text.js";
import type { Echo } from "./echo.js";
import { type ApiError, draining, engineLost } from "./errors.js";
import type { Decoder } from "./model.js";
import type { ChoiceToken } from "./choice-token.js";

/** A piece of a choice. Pieces in a row hold all of its text and all of its tokens, those that end it included. */
export interface ChoicePiece {
  readonly text: string;
  readonly tokens: readonly ChoiceToken[];
}

export interface ChoiceEnd {
  readonly finishReason: "length" | "stop";
  /** The stop string, or the token among those that the client named; null where the model ended by itself. */
  readonly stopReason: string | number | null;
}

export interface ChoiceRequest {
  readonly prompt: readonly number[];
  readonly sampling: SamplingParameters;
  /** None: there is no text. */
  readonly decoder: Decoder | undefined;
  readonly stops: readonly string[];
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

const SILENT: Decoder = { decode: () => "", isByte: () => false };

/** Turns what the engine says of a sequence into pieces. */
export function readChoice(request: ChoiceRequest, reader: ChoiceReader): SequenceListener {
  const { prompt, sampling, decoder = SILENT, stops, echo, namedStops } = request;
  let written = echo?.text ?? "";
  let tokens: ChoiceToken[] = [...(echo?.tokens ?? [])];
  const emit = (): void => {
    // Without log probabilities, tokens without text say nothing.
    if (written === "" && (tokens.length === 0 || sampling.logprobs === undefined)) return;
    const piece = { text: written, tokens };
    written = "";
    tokens = [];
    reader.piece(piece);
  };
  const hear = (piece: TextPiece): void => {
    written += piece.text;
    tokens.push(...piece.tokens.map(choiceToken));
    // Tokens wait for their text, where there is any.
    if (piece.text !== "" || decoder === SILENT) emit();
  };
  const text = new WrittenText(decoder, prompt, {
    stop: stops,
    stopTokens: sampling.stopTokens,
    offset: echo?.length,
    onPiece: hear,
  });
  return {
    promptLogprobs(logprobs) {
      tokens = tokens.map((token, i) => (i === 0 ? token : { ...token, logprob: logprobs[i - 1] }));
    },
    token(token) {
      reader.token();
      return text.add(token);
    },
    end(reason) {
      if (reason === "cancelled") return reader.failed(draining());
      const { stop = null, reason: last, cut } = text.end(reason);
      // All that were written are counted, and listed: those of a stop, too.
      tokens.push(...cut.map(choiceToken));
      emit();
      const isNamed = typeof stop === "string" || (stop !== null && namedStops.has(stop));
      reader.end({ finishReason: finishReason(last), stopReason: isNamed ? stop : null });
    },
    failed: (error) => reader.failed(engineLost(error)),
  };
}

function choiceToken(of: { readonly token: SampledToken; readonly offset: number }): ChoiceToken {
  return { id: of.token.id, offset: of.offset, logprob: of.token.logprob };
}

const finishReason = (reason: EndReason): ChoiceEnd["finishReason"] =>
  reason === "stop" ? "stop" : "length";
