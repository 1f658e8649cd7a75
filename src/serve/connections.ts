/** Connections: those that say nothing that can be read, or say it too slowly; and when one has no more use for an answer. */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ApiError } from "./errors.js";
import type { Limits } from "./limits.js";

/** How often connections are looked at, at least: a quarter of the time that they have. */
const LONGEST_INTERVAL_MS = 5_000;

/** For Node's `createServer`. */
export function connectionOptions({ headersTimeoutMs, bodyTimeoutMs }: Limits) {
  const requestTimeout = headersTimeoutMs + bodyTimeoutMs;
  return {
    headersTimeout: headersTimeoutMs,
    requestTimeout,
    connectionsCheckingInterval: Math.min(LONGEST_INTERVAL_MS, Math.ceil(headersTimeoutMs / 4)),
    // A client whose machine is gone says no goodbye.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
  };
}

const PROBLEMS: Readonly<Record<string, { status: number; message: string; code: string }>> = {
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: 408,
    message: "The request did not arrive in time",
    code: "request_too_slow",
  },
  HPE_HEADER_OVERFLOW: { status: 431, message: "The headers are too long", code: "headers_too_large" },
};
const UNREADABLE = { status: 400, message: "This is not HTTP that can be read", code: "bad_http" };

/** Answers a connection whose request could not be read, and closes it. */
export function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  const { status, message, code } = PROBLEMS[error.code ?? ""] ?? UNREADABLE;
  // An answer may be under way on this connection; then there is no place for another.
  if (socket.writable && socket.bytesWritten === 0) {
    const body = JSON.stringify(new ApiError(status, message, { code }).body);
    socket.write(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    );
  }
  socket.destroySoon();
}

/** What is to be done when a connection closes, by connection: one listener, however many requests it has. */
const onClose = new WeakMap<Socket, Set<() => void>>();

/**
 * Calls back once: when the answer is out, or the client has gone, whichever way. An answer that waits behind another on its connection
 * hears nothing of that closing, so the connection itself is asked.
 */
export function whenOver({ raw: { socket } }: FastifyRequest, { raw }: FastifyReply, act: () => void): void {
  const acts = onClose.get(socket) ?? new Set();
  if (!onClose.has(socket)) {
    onClose.set(socket, acts);
    socket.once("close", () => [...acts].forEach((over) => over()));
  }
  const over = (): void => {
    if (acts.delete(over)) act();
  };
  acts.add(over);
  raw.once("close", over);
  if (raw.closed || raw.destroyed || socket.destroyed) over();
}
