/**
 * What every communicator must do, as checks that all ranks of one run together: tests run them on threads, a single
 * rank and MPI; `scmoe bench comm` runs them before it measures.
 */
import { InputError } from "../core/errors.js";
import {
  allGather,
  allReduce,
  barrier,
  broadcast,
  gatherJson,
  reduceScatter,
  sumScalars,
} from "./collectives.js";
import type { Communicator, ExchangeRequest, Regions } from "./communicator.js";
import { gatherValues, scatterValues } from "./plain-values.js";
import { bytesOf, fromEach, sliceOf } from "./regions.js";

const WORD = 4;

/** Throws where the communicator is wrong. */
export const CHECKS: Readonly<Record<string, (comm: Communicator) => void>> = {
  "ragged rows arrive, with their sizes": (comm) => {
    const request = ragged(comm, "ragged");
    const { bytes, offsets } = comm.exchange(request).wait();
    expectRows(comm, request.recv.buffer, { bytes, offsets });
  },
  "a pool holds rows of unknown sizes, with notes": (comm) => {
    for (const room of ["enough", "too little"]) {
      const { send } = ragged(comm, "");
      const own = send.bytes[comm.rank];
      let memory = room === "enough" ? shared(4 * WORD * comm.size * comm.size) : shared(own);
      let grown = 0;
      const grow = (bytes: number): Uint8Array => {
        grown++;
        return (memory = shared(bytes));
      };
      const notes = Int32Array.from({ length: 2 * comm.size }, (_, i) => 1000 * comm.rank + i);
      const result = comm
        .exchange({ label: `pool ${room}`, send, recv: { buffer: memory, grow }, notes })
        .wait();
      expectRows(comm, memory, result);
      expectSame(grown, room === "too little" && comm.size > 1 ? 1 : 0, "times the pool grew");
      const wanted = everyone(comm).flatMap((p) => [0, 1].map((i) => 1000 * p + 2 * comm.rank + i));
      expectSame([...result.notes], wanted, "notes");
    }
  },
  "a pool grows while its rank waits in another communicator": (comm) => {
    // Rank 0 waits for what the others start only when rank 0 has taken their rows.
    const group = comm.split(() => 0);
    const sizes = everyone(comm).map(() => 1 << 20);
    const send = layOut(sizes);
    send.buffer.fill(comm.rank + 1);
    let memory = shared(1 << 20);
    const recv = { buffer: memory, grow: (bytes: number) => (memory = shared(bytes)) };
    const rows = comm.exchange({ label: "rows", send, recv });
    if (comm.rank !== 0) rows.wait();
    barrier(group, "rows are there").wait();
    const { offsets } = rows.wait();
    const ends = offsets.map((o) => [memory[o], memory[o + (1 << 20) - 1]]);
    expectSame(
      ends,
      everyone(comm).map((p) => [p + 1, p + 1]),
      "rows",
    );
  },
  "a rank that sends nothing, and a rank that gets nothing": (comm) => {
    const bytes = everyone(comm).map((p) => (comm.rank === 0 || p === comm.size - 1 ? 0 : WORD));
    const words = (): Regions => fromEach(shared(WORD * comm.size), comm.size, WORD);
    const result = comm.exchange({ label: "nothing", send: { ...words(), bytes }, recv: words() }).wait();
    const wanted = everyone(comm).map((p) => (p === 0 || comm.rank === comm.size - 1 ? 0 : WORD));
    expectSame([...result.bytes], wanted, "sizes");
  },
  "many exchanges under way are kept apart": (comm) => {
    for (let round = 0; round < 42; round++) {
      const underWay = round < 40 ? 4 : 100;
      const requests = Array.from({ length: underWay }, (_, i) => ragged(comm, `many ${round}.${i}`));
      const handles = requests.map((request) => comm.exchange(request));
      handles.forEach((handle, i) => expectRows(comm, requests[i].recv.buffer, handle.wait()));
    }
  },
  "rows of several MiB arrive whole": (comm) => {
    const words = 1 << 18;
    const word = (rank: number, i: number): number => (Math.imul(i, 0x9e3779b1) ^ (rank << 24)) >>> 0;
    const send = shared(words * WORD * comm.size);
    const numbers = new Uint32Array(send.buffer);
    for (let i = 0; i < numbers.length; i++) numbers[i] = word(comm.rank, i);
    const recv = shared(words * WORD * comm.size);
    const regions = (buffer: Uint8Array): Regions => fromEach(buffer, comm.size, words * WORD);
    comm.exchange({ label: "large", send: regions(send), recv: regions(recv) }).wait();
    const got = new Uint32Array(recv.buffer);
    for (const p of everyone(comm)) {
      for (let i = 0; i < words; i++)
        if (got[p * words + i] !== word(p, comm.rank * words + i))
          throw new InputError(`word ${i} from rank ${p} is ${got[p * words + i]}`);
    }
  },
  "sums add in rank order, so that all ranks have the same bits": (comm) => {
    const term = (r: number, i: number): number => Math.fround(Math.sin(i * (r + 1)) * 10 ** (r - 3));
    const length = 1001;
    const wanted = Float32Array.from({ length }, (_, i) => {
      let sum = term(0, i);
      for (let r = 1; r < comm.size; r++) sum = Math.fround(sum + term(r, i));
      return sum;
    });
    const mine = (): Float32Array => {
      const array = new Float32Array(shared(length * WORD).buffer);
      for (let i = 0; i < length; i++) array[i] = term(comm.rank, i);
      return array;
    };
    const [whole, part] = [mine(), mine()];
    const handles = [allReduce(comm, whole, "sum"), reduceScatter(comm, part, "part")];
    handles.forEach((handle) => handle.wait());
    expectSame(hex(whole), hex(wanted), "allReduce");
    const { start, end } = sliceOf(length, comm.rank, comm.size);
    expectSame(hex(part.subarray(start, end)), hex(wanted.subarray(start, end)), "reduceScatter");
    expectSame(sumScalars(comm, [comm.rank], "ranks"), [(comm.size * (comm.size - 1)) / 2], "sumScalars");
  },
  "gather and broadcast, of any number of bytes": (comm) => {
    for (const bytes of [0, 1, 5, 4096]) {
      const mine = new Uint8Array(bytes).fill(comm.rank + 1);
      const gathered = allGather(comm, mine, `gather ${bytes}`).wait();
      expectSame(
        gathered.map((g) => [g.length, g.every((b) => b === gathered.indexOf(g) + 1)]),
        everyone(comm).map(() => [bytes, true]),
        "gathered",
      );
      const root = bytes % comm.size;
      const told = broadcast(comm, comm.rank === root ? mine : undefined, root, `tell ${bytes}`).wait();
      expectSame([...told], [...new Uint8Array(bytes).fill(root + 1)], "broadcast");
    }
    const values = gatherJson(comm, "x".repeat(comm.rank), "json");
    expectSame(
      values,
      everyone(comm).map((p) => "x".repeat(p)),
      "gatherJson",
    );
  },
  "plain values reach their rank and come back, large ones too": (comm) => {
    const valueOf = (rank: number, of: string): unknown => ({
      rank,
      of,
      loss: rank % 2 === 0 ? -Infinity : undefined,
      text: "x".repeat(rank * 3000),
    });
    for (const of of ["first", "second"]) {
      const all = everyone(comm).map((rank) => valueOf(rank, of));
      const mine = scatterValues(comm, comm.rank === 0 ? all : undefined, `scatter ${of}`, Infinity);
      expectSame(mine, all[comm.rank], "scattered");
      const back = gatherValues(comm, mine, `gather ${of}`);
      expectSame(back, comm.rank === 0 ? all : undefined, "gathered");
      if (back?.some((value) => (value as { loss: unknown }).loss === null))
        throw new InputError("a number has become null");
    }
  },
  "handles are done when they say so, and can be waited for twice": (comm) => {
    const request = ragged(comm, "twice");
    const handle = comm.exchange(request);
    const first = handle.wait();
    expectSame([handle.done, handle.wait() === first], [true, true], "done, same result");
    barrier(comm, "end").wait();
  },
  "groups of one colour": (comm) => {
    const group = comm.split((rank) => rank % 2);
    const members = everyone(comm).filter((r) => r % 2 === comm.rank % 2);
    expectSame([group.rank, group.size], [members.indexOf(comm.rank), members.length], "rank and size");
    const sum = members.reduce((a, b) => a + b, 0);
    expectSame(sumScalars(group, [comm.rank], "halves"), [sum], "sum in the group");
  },
};

/**
 * Runs all checks; collective.
 * @returns names of the checks that passed on every rank
 * @throws InputError naming the check, the rank and what was found
 */
export function runChecks(comm: Communicator): string[] {
  for (const [name, check] of Object.entries(CHECKS)) {
    let failure = "";
    try {
      check(comm);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      failure = error.message;
    }
    gatherJson(comm, failure, `verdict: ${name}`).forEach((found, rank) => {
      if (found !== "") throw new InputError(`The communicator fails at "${name}" on rank ${rank}: ${found}`);
    });
  }
  return Object.keys(CHECKS);
}

/** Rank r sends r + p + 1 words to rank p, each byte r · 16 + p. */
function ragged(comm: Communicator, label: string): ExchangeRequest & { readonly recv: Regions } {
  const sizes = everyone(comm).map((p) => (comm.rank + p + 1) * WORD);
  const rooms = everyone(comm).map(() => 2 * comm.size * WORD);
  const send = layOut(sizes);
  send.offsets.forEach((o, p) => send.buffer.fill(comm.rank * 16 + p, o, o + sizes[p]));
  return { label, send, recv: layOut(rooms) };
}

function expectRows(
  comm: Communicator,
  buffer: Uint8Array,
  at: { readonly bytes: readonly number[]; readonly offsets: readonly number[] },
): void {
  for (const p of everyone(comm)) {
    const bytes = (p + comm.rank + 1) * WORD;
    expectSame(at.bytes[p], bytes, `bytes from rank ${p}`);
    const rows = buffer.subarray(at.offsets[p], at.offsets[p] + bytes);
    if (!rows.every((b) => b === ((p * 16 + comm.rank) & 255)))
      throw new InputError(`rows from rank ${p} are ${rows.join(" ")}`);
  }
}

function layOut(bytes: readonly number[]): Regions {
  let at = 0;
  const offsets = bytes.map((b) => (at += b) - b);
  return { buffer: shared(at), offsets, bytes };
}

function everyone(comm: Communicator): number[] {
  return Array.from({ length: comm.size }, (_, r) => r);
}

function shared(bytes: number): Uint8Array {
  return new Uint8Array(new SharedArrayBuffer(bytes));
}

function hex(values: Float32Array): string {
  return Buffer.from(bytesOf(values)).toString("hex");
}

function expectSame(found: unknown, wanted: unknown, what: string): void {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new InputError(`${what}: found ${a}, wanted ${b}`);
}
