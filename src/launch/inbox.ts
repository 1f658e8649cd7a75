/**
 * A line from whoever launched a job to its rank 0, which has no event loop to hear events with while it computes, and
 * sleeps while there is nothing to do.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort } from "node:worker_threads";

/** The end that rank 0's thread is given. */
export interface InboxEnd {
  readonly port: MessagePort;
  /** [1] shared: changes with every message, and is slept on. */
  readonly count: Int32Array;
}

/** Whoever launches a job speaks to its rank 0 here. Of one launch: the end can be given away once. */
export interface Outbox {
  readonly end: InboxEnd;
  /** @param message plain data */
  post(message: unknown): void;
  /** Nothing more will come; idempotent. */
  close(): void;
}

/** Rank 0 hears here what whoever launched it posts. */
export interface Inbox {
  /** The next message; the thread sleeps until there is one. @returns undefined once the line is closed */
  receive(): { readonly message: unknown } | undefined;
}

type Letter = { readonly message: unknown } | "closed";

/** For `LaunchOptions.outbox`; what is posted before the launch is heard, too. */
export function createOutbox(): Outbox {
  const { port1, port2 } = new MessageChannel();
  const count = new Int32Array(new SharedArrayBuffer(4));
  const send = (letter: Letter): void => {
    port1.postMessage(letter);
    Atomics.add(count, 0, 1);
    Atomics.notify(count, 0);
  };
  return {
    end: { port: port2, count },
    post: (message) => send({ message }),
    close: () => send("closed"),
  };
}

/** On the thread that was given the end. */
export function openInbox({ port, count }: InboxEnd): Inbox {
  let isClosed = false;
  return {
    receive() {
      while (!isClosed) {
        const seen = Atomics.load(count, 0);
        const got: { message: Letter } | undefined = receiveMessageOnPort(port);
        if (got === undefined) Atomics.wait(count, 0, seen);
        else if (got.message !== "closed") return got.message;
        else isClosed = true;
      }
      return undefined;
    },
  };
}
