/** A request as peers see it: addresses and sizes in the ring. */
import { addressOf } from "../../core/address.js";
import { fnv1a } from "../../core/hash.js";
import { type ExchangeRequest, isPool } from "../communicator.js";
import type { Place } from "./move.js";
import { FIELD, WORD } from "./ring.js";

/** What its rank knows of an exchange from the start. */
export interface Started {
  /** Held until everything has arrived: peers read and write its memory by address. */
  readonly request: ExchangeRequest;
  /** [size] ranks of the world that take part. */
  readonly members: readonly number[];
  /** The same without this rank, the next one first, so that ranks do not all begin with the same one. */
  readonly others: readonly number[];
  readonly notesOut: Int32Array;
  readonly notesIn: Int32Array;
  readonly startMs: number;
}

/** Writes a request into its place in the ring; from then on peers may read and write its memory. */
export function showRequest(
  { ring, rank, sequence, label }: Place,
  { request, members, notesOut, notesIn }: Started,
): void {
  const { send, recv } = request;
  const { fields } = ring;
  const posting = ring.posting(rank, sequence);
  const pool = isPool(recv);
  ring.hashes[posting] = fnv1a(label);
  ring.poolUsed[posting] = pool ? send.bytes[members.indexOf(rank)] / WORD : 0;
  ring.poolRoom[posting] = pool ? Math.floor(recv.buffer.byteLength / WORD) : 0;
  const address = (array: ArrayBufferView): number => Number(addressOf(array));
  const [from, to] = [address(send.buffer), address(recv.buffer)];
  const [fromNotes, toNotes] = [address(notesOut), address(notesIn)];
  const noteBytes = (notesOut.length / members.length) * WORD;
  members.forEach((peer, p) => {
    const at = ring.field(posting, peer, 0);
    fields[at + FIELD.sendAddress] = from + send.offsets[p];
    fields[at + FIELD.sendBytes] = send.bytes[p];
    fields[at + FIELD.recvAddress] = pool ? to : to + recv.offsets[p];
    fields[at + FIELD.recvBytes] = pool ? -1 : recv.bytes[p];
    fields[at + FIELD.sendNotes] = fromNotes + p * noteBytes;
    fields[at + FIELD.recvNotes] = toNotes + p * noteBytes;
    fields[at + FIELD.noteBytes] = noteBytes;
  });
  Atomics.store(ring.posted, posting, sequence + 1);
}
