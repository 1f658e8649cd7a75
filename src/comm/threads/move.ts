/** Moving messages between two ranks of a board. Either may do it, whoever gets to it first; a claim settles who. */
import { copyBytes } from "../../core/address.js";
import { nowMs } from "../../core/clock.js";
import type { BoardView } from "./board.js";
import { FIELD, type Ring, WORD } from "./ring.js";

/** One rank in one exchange. */
export interface Place {
  readonly view: BoardView;
  /** Of the communicator. */
  readonly ring: Ring;
  readonly sequence: number;
  /** Rank of the world. */
  readonly rank: number;
  readonly label: string;
}

/** Index of the message from one rank to another in the ring's `claims` and `moved`. */
export function messageIndex({ ring, sequence }: Place, from: number, to: number): number {
  return ring.posting(to, sequence) * ring.size + from;
}

/** Moves both messages between this rank and a peer that nobody has taken on, if both have posted. */
export function moveBetween(place: Place, peer: number): void {
  const { view, ring, sequence, rank, label } = place;
  if (Atomics.load(ring.posted, ring.posting(peer, sequence)) !== sequence + 1) return;
  for (const [from, to] of [
    [rank, peer],
    [peer, rank],
  ]) {
    const index = messageIndex(place, from, to);
    const claim = Atomics.load(ring.claims, index);
    if (Math.abs(claim) === sequence + 1) continue;
    if (Atomics.compareExchange(ring.claims, index, claim, sequence + 1) !== claim) continue;
    const [mine, theirs] = [ring.posting(rank, sequence), ring.posting(peer, sequence)];
    if (ring.hashes[mine] !== ring.hashes[theirs])
      view.giveUp(`Ranks ${rank} and ${peer} are in different operators: ${label} and ${view.label(peer)}`);
    move(place, from, to);
  }
}

/** Moves a claimed message, or parks it when its pool has no room. */
function move(place: Place, from: number, to: number): void {
  const { view, ring, sequence, label } = place;
  const { fields } = ring;
  const index = messageIndex(place, from, to);
  const toPosting = ring.posting(to, sequence);
  const sent = ring.field(ring.posting(from, sequence), to, 0);
  const received = ring.field(toPosting, from, 0);
  const bytes = fields[sent + FIELD.sendBytes];
  const room = fields[received + FIELD.recvBytes];
  const notes = fields[sent + FIELD.noteBytes];
  if (room >= 0 && bytes > room)
    view.giveUp(`${label}: rank ${from} sends ${bytes} bytes to rank ${to}, which expects at most ${room}`);
  if (notes !== fields[received + FIELD.noteBytes])
    view.giveUp(`${label}: ranks ${from} and ${to} note different numbers of values`);
  if (view.aborted !== undefined) return settle(place, { from, to }, -(sequence + 1));

  fields[received + FIELD.gotBytes] = bytes;
  fields[received + FIELD.readyMs] = nowMs();
  copyBytes(fields[received + FIELD.recvNotes], fields[sent + FIELD.sendNotes], notes);
  if (room < 0) {
    const offset = Atomics.add(ring.poolUsed, toPosting, bytes / WORD);
    fields[received + FIELD.gotOffset] = offset * WORD;
    if (offset + bytes / WORD > ring.poolRoom[toPosting]) {
      Atomics.store(ring.claims, index, -(sequence + 1));
      view.wakeRank(to);
      return;
    }
  }
  deliver(place, from, to);
}

/** Copies the rows of a message that is claimed and has its place. */
function deliver(place: Place, from: number, to: number): void {
  const { view, ring, sequence } = place;
  const { fields } = ring;
  const sent = ring.field(ring.posting(from, sequence), to, 0);
  const received = ring.field(ring.posting(to, sequence), from, 0);
  const bytes = fields[received + FIELD.gotBytes];
  const offset = fields[received + FIELD.recvBytes] < 0 ? fields[received + FIELD.gotOffset] : 0;
  copyBytes(fields[received + FIELD.recvAddress] + offset, fields[sent + FIELD.sendAddress], bytes);
  fields[received + FIELD.arrivalMs] = arrival(view, { from, to, bytes });
  settle(place, { from, to }, sequence + 1);
}

/** The receiver's part after its pool has grown: delivers a parked message into the new memory. */
export function deliverParked(place: Place, from: number, pool: number): void {
  const { ring, sequence, rank } = place;
  ring.fields[ring.field(ring.posting(rank, sequence), from, FIELD.recvAddress)] = pool;
  const index = messageIndex(place, from, rank);
  if (Atomics.compareExchange(ring.claims, index, -(sequence + 1), sequence + 1) === -(sequence + 1))
    deliver(place, from, rank);
}

/** Gives a message up, unless somebody is moving it: then waits until that is over. */
export function withdrawMessage(place: Place, from: number, to: number): void {
  const { ring, sequence } = place;
  const index = messageIndex(place, from, to);
  for (;;) {
    const claim = Atomics.load(ring.claims, index);
    if (claim === sequence + 1) break;
    if (Atomics.compareExchange(ring.claims, index, claim, sequence + 1) === claim)
      settle(place, { from, to }, -(sequence + 1));
  }
  while (Math.abs(Atomics.load(ring.moved, index)) !== sequence + 1) Atomics.wait(pillow, 0, 0, 0.1);
}

/** A rank waits for both messages between it and a peer, so both ranks are woken when the second is settled. */
function settle(place: Place, { from, to }: { from: number; to: number }, outcome: number): void {
  const { view, ring } = place;
  Atomics.store(ring.moved, messageIndex(place, from, to), outcome);
  if (Math.abs(Atomics.load(ring.moved, messageIndex(place, to, from))) !== Math.abs(outcome)) return;
  view.wakeRank(from);
  view.wakeRank(to);
}

/** Each port carries one message after another; a message arrives when both ports have carried it. */
function arrival(view: BoardView, message: { from: number; to: number; bytes: number }): number {
  const { link } = view;
  const now = nowMs();
  if (link === undefined || message.bytes === 0) return now;
  const duration = message.bytes / link.bytesPerMs;
  const [out, into] = [2 * message.from, 2 * message.to + 1];
  while (Atomics.compareExchange(view.lock, 0, 0, 1) !== 0);
  const sent = Math.max(now, view.ports[out]) + duration;
  const received = Math.max(now, view.ports[into]) + duration;
  view.ports[out] = sent;
  view.ports[into] = received;
  Atomics.store(view.lock, 0, 0);
  return Math.max(sent, received) + link.latencyMs;
}

const pillow = new Int32Array(new SharedArrayBuffer(4));
