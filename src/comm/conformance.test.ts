/** The checks that every communicator must pass, and trouble on threads; under MPI they run in test/heavy. */
import { describe, expect, it } from "vitest";
import { MINI, scmoe, temporaryDirectory } from "../../test/helpers.js";
import { RAGGED, onRanks } from "../../test/on-ranks.js";
import { runChecks } from "./checks.js";
import { singleCommunicator } from "./single.js";

it.each([1, 2, 3, 8])("threads, %i ranks, pass all checks", async (size) => {
  const names = await onRanks<string[]>(size, "return runChecks(comm);");
  expect(names).toEqual(Array.from({ length: size }, () => expect.arrayContaining(["groups of one colour"])));
});

it("a single rank passes all checks", () => {
  expect(runChecks(singleCommunicator()).length).toBeGreaterThan(8);
});

it("with a link, too", async () => {
  for (const names of await onRanks<string[]>(3, "return runChecks(comm);", { link: "1gbit,20us" }))
    expect(names).toEqual(expect.arrayContaining(["groups of one colour"]));
});

it("keeps many exchanges apart, whoever is late", async () => {
  const results = await onRanks<number>(
    3,
    `${RAGGED} let sum = 0;
     for (let i = 0; i < 200; i++) { if ((i + r) % 7 === 0) await new Promise((d) => setTimeout(d, 1)); const a = comm.exchange(request("a" + i)); const b = comm.exchange(request("b" + i)); a.wait(); sum += b.wait().bytes.length; }
     return sum;`,
  );
  expect(results).toEqual([600, 600, 600]);
});

describe("any number of exchanges under way", () => {
  it.each([2, 3])("100 at once on %i ranks, in pools that grow, whoever is late", async (size) => {
    const results = await onRanks<number>(
      size,
      `const n = comm.size, r = comm.rank, bytes = 8 * n;
       const at = (buffer) => ({ buffer, offsets: Array.from({ length: n }, (_, p) => 8 * p), bytes: new Array(n).fill(8) });
       let wrong = 0;
       for (let round = 0; round < 3; round++) {
         await new Promise((d) => setTimeout(d, 5 * ((round + r) % n)));
         const started = Array.from({ length: 100 }, (_, i) => {
           let memory = shared(8);
           const recv = { buffer: memory, grow: (wanted) => (memory = shared(wanted)) };
           const handle = comm.exchange({ label: "x" + i, send: at(shared(bytes).fill(i + r)), recv });
           return { handle, rows: () => memory };
         });
         started.forEach(({ handle, rows }, i) => {
           const { offsets, bytes } = handle.wait();
           offsets.forEach((o, p) => { if (bytes[p] !== 8 || rows().subarray(o, o + 8).some((b) => b !== i + p)) wrong++; });
         });
       }
       return wrong;`,
    );
    expect(results).toEqual(new Array(size).fill(0));
  });

  it("one that stands in line is posted while its rank waits in another communicator", async () => {
    const results = await onRanks<string>(
      2,
      `${RAGGED} const group = comm.split(() => 0);
       // Its place frees while rank 0 waits for what rank 1 begins only after the last of them.
       const begin = () => Array.from({ length: 100 }, (_, i) => comm.exchange(request("world " + i)));
       if (r === 0) { const handles = begin(); group.exchange(request("group")).wait(); handles.forEach((h) => h.wait()); }
       else { begin().forEach((h) => h.wait()); group.exchange(request("group")).wait(); }
       return "done";`,
    );
    expect(results).toEqual(["done", "done"]);
  });

  it("asking alone brings on those that stand in line", async () => {
    const results = await onRanks<string>(
      2,
      `${RAGGED} const handles = Array.from({ length: 100 }, (_, i) => comm.exchange(request("x" + i)));
       while (!handles.at(-1).done) await new Promise((d) => setTimeout(d, 1));
       handles.forEach((h) => h.wait());
       return "done";`,
    );
    expect(results).toEqual(["done", "done"]);
  });

  it("a chunk of its own for every few tokens trains", () => {
    const policy = ["--set", "schedule.policy=pipelined(33)"];
    const { code, stderr } = scmoe(["train", "-q", "-n", "2", ...MINI, ...policy], temporaryDirectory());
    expect([code, stderr]).toEqual([0, ""]);
  });
});

it("40 communicators split from one world keep their exchanges apart", async () => {
  const results = await onRanks<number[]>(
    3,
    `const groups = Array.from({ length: 40 }, (_, i) => comm.split((rank) => (rank === i % 3 ? 1 : 0)));
     const sums = groups.map((group) => group.exchange({ label: "own", ...(() => {
       const regions = (buffer) => ({ buffer, offsets: Array.from({ length: group.size }, (_, p) => 4 * p), bytes: new Array(group.size).fill(4) });
       return { send: regions(shared(4 * group.size).fill(1 + comm.rank)), recv: regions(shared(4 * group.size)) };
     })(), notes: new Int32Array(group.size).fill(comm.rank) }));
     return sums.reverse().map((handle) => handle.wait().notes.reduce((a, b) => a + b, 0)).reverse();`,
  );
  const wanted = (rank: number): number[] =>
    Array.from({ length: 40 }, (_, i) => (rank === i % 3 ? rank : 3 - (i % 3)));
  expect(results).toEqual([0, 1, 2].map(wanted));
});

describe("waiting for whichever comes first", () => {
  /** Rank 1 posts the older exchange, of the world, only after it was told through the younger one, of the group. */
  const LATE = `${RAGGED} const group = comm.split(() => 0);
    if (r === 1) { group.exchange(request("group")).wait(); group.exchange(request("told")).wait(); comm.exchange(request("world")).wait(); return ["rank 1"]; }
    const handles = [comm.exchange(request("world")), group.exchange(request("group"))];
    const tell = () => group.exchange(request("told")).wait();`;

  it.each([undefined, "1gbit,1ms"])("uses the younger of another group, link %s", async (link) => {
    const results = await onRanks<unknown[]>(
      2,
      `${LATE} const first = waitAny(handles, 10_000); handles[first].wait(); tell();
       return [first, waitAny([handles[0]], 10_000), handles[0].done];`,
      { link },
    );
    expect(results).toEqual([[1, 0, true], ["rank 1"]]);
  });

  it("needs no more than asking", async () => {
    const results = await onRanks<unknown[]>(
      2,
      `${LATE} while (!handles[1].done) await new Promise((d) => setTimeout(d, 1));
       const older = handles[0].done; handles[1].wait(); tell();
       while (!handles[0].done) await new Promise((d) => setTimeout(d, 1));
       return [older, handles[0].wait().bytes.length];`,
    );
    expect(results).toEqual([[false, 2], ["rank 1"]]);
  });

  it("names who is late when none comes, and hears of a rank that gives up", async () => {
    const late = await onRanks<string>(
      2,
      `${RAGGED} const group = comm.split(() => 0); if (r === 1) return "late";
       return waitAny([comm.exchange(request("L0.dispatch")), group.exchange(request("L1.dispatch"))], 100);`,
    );
    const message = /^L0\.dispatch: no answer from rank 1 \(last seen in start-up\) within 0\.1 s/;
    expect(late).toEqual([{ error: expect.stringMatching(message) }, "late"]);
    const told = await onRanks<string>(
      2,
      `${RAGGED} const group = comm.split(() => 0); if (r === 1) { comm.abort("rank 1 broke down"); return "gave up"; }
       const handles = [comm.exchange(request("x")), group.exchange(request("y"))];
       return handles[waitAny(handles, 10_000)].wait();`,
    );
    expect(told).toEqual([{ error: expect.stringContaining("rank 1 broke down") }, "gave up"]);
  });
});

describe("trouble", () => {
  it("names the late rank, where it was last seen, and the operator of this one", async () => {
    const results = await onRanks<string>(
      2,
      `${RAGGED} comm.exchange(request("L0.dispatch")).wait(); if (r === 1) return "late"; comm.exchange(request("L1.dispatch")).wait(); return "?";`,
      { deadlineMs: 200 },
    );
    expect(results).toEqual([
      {
        error: expect.stringMatching(
          /^L1\.dispatch: no answer from rank 1 \(last seen in L0\.dispatch\) within 0\.2 s/,
        ),
      },
      "late",
    ]);
  });

  it("keeps the deadline where the link itself would deliver later, and says what the link needs", async () => {
    const results = await onRanks<string>(2, `${RAGGED} comm.exchange(request("L0.dispatch")).wait();`, {
      link: "1bit,50ms",
      deadlineMs: 2_000,
    });
    const why =
      /L0\.dispatch.*nothing can come within 2 s: the link \(.*, 50 ms\) needs \d+\.\d s for 8 bytes from rank [01]; allow/;
    expect(results).toEqual([{ error: expect.stringMatching(why) }, { error: expect.stringMatching(why) }]);
  });

  it("wakes a rank that a link keeps waiting when another gives up", async () => {
    const results = await onRanks<string>(
      2,
      `${RAGGED} const way = comm.exchange(request("L0.dispatch"));
       if (r === 1) { await new Promise((resolve) => setTimeout(resolve, 200)); comm.abort("rank 1 broke down"); return ""; }
       way.wait(); return "delivered";`,
      { link: "1gbit,5s" },
    );
    expect(results[0]).toEqual({ error: expect.stringContaining("rank 1 broke down") });
  });

  it("ends all waits when a rank gives up", async () => {
    const results = await onRanks<string>(
      3,
      `${RAGGED} if (r === 2) { comm.abort("rank 2 broke down"); return "gave up"; } comm.exchange(request("L1.combine")).wait(); return "?";`,
    );
    const told = { error: expect.stringContaining("rank 2 broke down") };
    expect(results).toEqual([told, told, "gave up"]);
  });

  it("refuses different operators and rows that do not fit", async () => {
    const different = await onRanks<string>(
      2,
      `${RAGGED} comm.exchange(request("op" + r)).wait(); return "?";`,
    );
    expect(different[0]).toEqual({ error: expect.stringMatching(/different operators: op\d and op\d/) });
    const large = await onRanks<string>(
      2,
      `${RAGGED} if (r === 0) recvMax.fill(4); comm.exchange(request("x")).wait(); return "?";`,
    );
    expect(large[0]).toEqual({
      error: expect.stringMatching(/rank 1 sends 8 bytes to rank 0, which expects at most 4/),
    });
  });
});

it("a link delays delivery without keeping the processor or the sender busy", async () => {
  // 4 units of 64 KiB at 100 Mbit/s: 5.24 ms each, one after the other on the port.
  const results = await onRanks<{ posted: number; total: number; cpu: number }>(
    2,
    `const bytes = 65536, send = shared(2 * bytes), recv = shared(2 * bytes), peer = 1 - comm.rank;
     const regions = (buffer) => ({ buffer, offsets: [0, bytes], bytes: [0, 1].map((p) => (p === peer ? bytes : 0)) });
     c.barrier(comm, "start").wait();
     const t0 = nowMs(), handles = [];
     for (let i = 0; i < 4; i++) handles.push(comm.exchange({ label: "x" + i, send: regions(send), recv: regions(recv) }));
     const posted = nowMs() - t0; const before = process.cpuUsage();
     for (const h of handles) h.wait();
     const { user, system } = process.cpuUsage(before);
     return { posted, total: nowMs() - t0, cpu: (user + system) / 1e3 };`,
    { link: "100mbit,1ms" },
  );
  for (const result of results) {
    expect("error" in result).toBe(false);
    const { posted, total } = result as { posted: number; total: number };
    expect(total).toBeGreaterThanOrEqual(4 * 5.24 + 1);
    expect(posted).toBeLessThan(total / 2);
  }
});

it("keeps what was posted while peers have yet to read it", async () => {
  const results = await onRanks<number[]>(
    2,
    `require("node:v8").setFlagsFromString("--expose-gc");
     const gc = require("node:vm").runInNewContext("gc");
     const words = 1 << 16, n = comm.size, r = comm.rank;
     const empty = { buffer: shared(8), offsets: [0, 0], bytes: [0, 0] };
     const found = [];
     for (let i = 0; i < 8; i++) {
       if (r === 1) await new Promise((done) => setTimeout(done, 20));
       const pending = (() => comm.exchange({ label: "notes", send: empty, recv: empty, notes: new Int32Array(n * words).fill(100 * r + i + 1) }))();
       if (r === 0) { gc(); for (let k = 0; k < 40; k++) shared(n * words * 4).fill(255); }
       const { notes } = pending.wait();
       found.push(new Set(notes.subarray((1 - r) * words, (2 - r) * words)).size === 1 ? notes[(1 - r) * words] : NaN);
     }
     return found;`,
  );
  expect(results[0]).toEqual(Array.from({ length: 8 }, (_, i) => 101 + i));
  expect(results[1]).toEqual(Array.from({ length: 8 }, (_, i) => 1 + i));
});
