/** Server-sent events: an answer that comes in pieces. */
import type { FastifyReply } from "fastify";
import type { ApiError } from "./errors.js";

export interface EventStream {
  /** Whether anything has been sent: then the status is out, and an error can only be an event. */
  readonly isOpen: boolean;
  send(data: unknown): void;
  /** The last event of an answer that is whole. */
  done(): void;
  /** The last event of an answer that is not. */
  fail(error: ApiError): void;
}

/**
 * Headers go out with the first event, so that whatever goes wrong before is a status.
 * @param maxUnread bytes that may wait for a client that does not read; then `giveUp` is called
 */
export function eventStream(reply: FastifyReply, maxUnread: number, giveUp: () => void): EventStream {
  let isOpen = false;
  const { raw } = reply;
  const write = (text: string): void => {
    if (!isOpen) {
      isOpen = true;
      reply.hijack();
      raw.on("error", () => undefined);
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        // Proxies such as nginx would collect the events otherwise.
        "x-accel-buffering": "no",
      });
    }
    if (raw.destroyed) return;
    raw.write(`data: ${text}\n\n`);
    if (raw.writableLength > maxUnread) giveUp();
  };
  return {
    get isOpen() {
      return isOpen;
    },
    send: (data) => write(JSON.stringify(data)),
    done() {
      write("[DONE]");
      raw.end();
    },
    fail(error) {
      write(JSON.stringify(error.body));
      raw.end();
    },
  };
}
