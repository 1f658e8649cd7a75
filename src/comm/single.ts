import { nowMs } from "../core/clock.js";
import type { Communicator, ExchangeRequest, ExchangeResult, Pending } from "./communicator.js";

/** A world of one rank: an exchange copies the own part, unless it already lies where it should go. */
export function singleCommunicator(): Communicator {
  const communicator: Communicator = {
    kind: "single",
    rank: 0,
    size: 1,
    deadlineMs: Infinity,
    exchange: (request) => finished(request),
    split: () => communicator,
    abort: () => undefined,
    close: () => undefined,
  };
  return communicator;
}

function finished(request: ExchangeRequest): Pending {
  const startMs = nowMs();
  copyOwnPart(request, 0);
  const result: ExchangeResult = { bytes: [request.send.bytes[0]], startMs, endMs: nowMs() };
  return { done: true, wait: () => result };
}

/** Copies the part a rank sends to itself. */
export function copyOwnPart({ send, recv }: ExchangeRequest, rank: number): void {
  const bytes = send.bytes[rank];
  const from = send.buffer.byteOffset + send.offsets[rank];
  const to = recv.buffer.byteOffset + recv.offsets[rank];
  if (bytes === 0 || (send.buffer.buffer === recv.buffer.buffer && from === to)) return;
  recv.buffer.set(send.buffer.subarray(send.offsets[rank], send.offsets[rank] + bytes), recv.offsets[rank]);
}
