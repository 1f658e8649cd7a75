/** What a client is told when its request fails: OpenAI's form, with a status. */
import { InputError } from "../core/errors.js";
import { oneLine } from "../core/shown.js";

/** Characters of a key's name: clients choose names, too. */
const MOST_OF_PARAM = 200;

type ErrorType = "invalid_request_error" | "rate_limit_error" | "server_error";

/** A failure that has a status and words for the client. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    readonly status: number,
    message: string,
    readonly details: {
      /** The key of the request that is to blame, `messages[0].content`. */
      readonly param?: string | undefined;
      readonly code?: string | undefined;
      /** After how many seconds the same request may succeed. */
      readonly retryAfter?: number | undefined;
      /** For the log alone. */
      readonly cause?: unknown;
    } = {},
  ) {
    super(oneLine(message));
  }

  /** `{ error: { message, type, param, code } }` */
  get body(): ErrorBody {
    const { param = null, code = null } = this.details;
    const named =
      param === null || param.length <= MOST_OF_PARAM ? param : `${param.slice(0, MOST_OF_PARAM)}…`;
    return { error: { message: this.message, type: typeOf(this.status), param: named, code } };
  }
}

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ErrorType;
    readonly param: string | null;
    readonly code: string | null;
  };
}

function typeOf(status: number): ErrorType {
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

/** The client has gone: nobody reads the answer, but logs and metrics have a status for it (nginx's). */
export const CLIENT_GONE = 499;

export const invalid = (message: string, param?: string, code = "invalid_value"): ApiError =>
  new ApiError(400, message, { param, code });

export function contextExceeded(contextLength: number, wanted: string, param: string): ApiError {
  return new ApiError(
    400,
    `This model's maximum context length is ${contextLength} tokens; found ${wanted}; shorten the prompt or ask for fewer tokens`,
    { param, code: "context_length_exceeded" },
  );
}

export const draining = (): ApiError =>
  new ApiError(503, "The server is shutting down and takes no new requests; try another one", {
    code: "draining",
    retryAfter: 5,
  });

export const engineLost = (cause?: unknown): ApiError =>
  new ApiError(503, "The model has stopped answering; the server must be started again", {
    code: "engine_lost",
    cause,
  });

/** Fastify's own codes, in OpenAI's words. */
const KNOWN: Readonly<Record<string, { readonly code: string; readonly message?: string }>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: { code: "request_too_large" },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: "unsupported_media_type",
    message: "The body must be JSON; send it with the header Content-Type: application/json",
  },
  FST_ERR_CTP_EMPTY_JSON_BODY: { code: "invalid_json", message: "The body is empty; wanted a JSON object" },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: { code: "invalid_content_length" },
  FST_ERR_BAD_URL: { code: "invalid_url", message: "The URL has a % that begins no escape" },
};

/** Anything thrown while a request was handled. A bug of ours tells the client nothing but that. */
export function apiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  // The engine refuses a request: what it says is meant for people.
  if (error instanceof InputError) return invalid(error.message);
  const { statusCode, code, message } = error as { statusCode?: unknown; code?: unknown; message?: unknown };
  if (typeof statusCode === "number" && statusCode >= 400 && statusCode < 500) {
    const known = typeof code === "string" ? KNOWN[code] : undefined;
    return new ApiError(statusCode, known?.message ?? String(message), {
      code: known?.code ?? "bad_request",
    });
  }
  return new ApiError(500, "The server failed on this request; its log has the cause", {
    code: "internal_error",
    cause: error,
  });
}
