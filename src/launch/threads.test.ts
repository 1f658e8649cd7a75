/** What a launch does with what ranks do: return, emit, stop when asked, fail in a way that they cannot report themselves. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../../test/helpers.js";
import { createOutbox } from "./inbox.js";
import { type Job, defineJob } from "./job.js";
import { launch } from "./launch.js";

const dist = (path: string): string => new URL(`../../dist/${path}`, import.meta.url).href;
const folder = temporaryDirectory();
let count = 0;

/** A job in a module of its own, as a user writes it; `body` is JavaScript with `context`, `options` and collectives. */
function job<O, R>(body: string, exported = "job"): Job<O, R, { kind: "count"; count: number }> {
  const file = join(folder, `${count++}.mjs`);
  writeFileSync(
    file,
    `import { defineJob, launch } from "${dist("index.js")}";
     import { barrier, maxScalars } from "${dist("comm/collectives.js")}";
     export const ${exported} = defineJob(import.meta.url, "job", async (context, options) => { ${body} });`,
  );
  return defineJob(pathToFileURL(file).href, "job", (): R => {
    throw new Error("runs on ranks only");
  });
}

it("hands options to every rank, and rank 0's events and result back", async () => {
  const heard: unknown[] = [];
  const outcome = await launch(
    job<{ from: number }, number[]>(
      `context.say("hello"); context.progress("half"); context.emit({ kind: "count", count: context.world.rank });
       barrier(context.world, "all").wait();
       return [options.from + context.world.rank, context.world.size];`,
    ),
    { from: 40 },
    { ranks: 2, onEvent: (event) => heard.push(event) },
  );
  expect(outcome).toEqual({ result: [40, 2], interrupted: false });
  expect(heard).toEqual([
    { kind: "message", line: "hello" },
    { kind: "progress", line: "half" },
    { kind: "count", count: 0 },
  ]);
});

it("launches from a program that is given as text", () => {
  const { module } = job<object, number>("return context.world.size;");
  const program = `import { launch } from "${dist("index.js")}"; import { job } from "${module}";
    console.log((await launch(job, {}, { ranks: 2 })).result);`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
    encoding: "utf8",
  });
  expect([stdout, stderr]).toEqual(["2\n", ""]);
});

const UNTIL_ASKED = `for (let step = 1; ; step++) {
  context.emit({ kind: "count", count: step });
  // Ranks hear of it at different steps: they must agree.
  if (maxScalars(context.world, [context.interrupted() ? 1 : 0], "stop?")[0] > 0) return "saved";
  await new Promise((resolve) => setTimeout(resolve, 1));
}`;

it("asks ranks to stop when the signal is aborted, or was before", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const onEvent = (event: { kind: string; count?: number }): void => {
    if (event.count === 3) controller.abort();
  };
  const stopping = job<object, string>(UNTIL_ASKED);
  for (const ranks of [2, 1])
    expect(await launch(stopping, {}, { ranks, signal, onEvent })).toEqual({
      result: "saved",
      interrupted: true,
    });
});

it.each([
  ["has another name", job("", "other"), /\.mjs exports no job "job"; export what defineJob returns/],
  [
    "cannot be imported",
    defineJob("file:///no/such.mjs", "job", () => 0),
    /Cannot import file:\/\/\/no\/such\.mjs/,
  ],
  [
    "launches again",
    job(`await launch(job, {})`),
    /called launch while it imported or ran file:.*isMainThread/,
  ],
  ["throws no error", job(`throw "words"`), /^words$/],
])("a job that %s is one line", async (_, broken, message) => {
  await expect(launch(broken, {})).rejects.toThrow(message);
});

it.each([
  ["throws", `throw new Error("broken");`, /^rank 1: broken$/],
  ["leaves", `process.exit(3);`, /^rank 1: its thread ended unexpectedly \(exit code 3\)/],
  [
    "crashes outside",
    `await new Promise(() => queueMicrotask(() => { throw new Error("out of the blue"); }));`,
    /^rank 1: out of the blue/,
  ],
  [
    "stands still",
    `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`,
    /no answer from rank 1 \(last seen in step 3\) within 1 s/,
  ],
])("a rank that %s ends the launch, by name", async (_, trouble, message) => {
  const meeting = job(
    `for (let step = 0; ; step++) {
       barrier(context.world, "step " + step).wait();
       if (context.world.rank === 1 && step === 3) { ${trouble} }
     }`,
  );
  await expect(launch(meeting, {}, { ranks: 3, deadlineMs: 1_000 })).rejects.toThrow(message);
});

it("rank 0 hears what is posted, in order, until the line is closed, which a rank that fails does", async () => {
  const hearing = job<{ fails: boolean }, unknown[]>(
    `const { world, inbox } = context;
     if (world.rank === 1) {
       if (options.fails) throw new Error("broken");
       return inbox;
     }
     const heard = [];
     for (let letter = inbox.receive(); letter !== undefined; letter = inbox.receive()) {
       heard.push(letter.message);
       context.say("heard " + letter.message);
     }
     context.say("closed");
     return heard;`,
  );
  const lines: string[] = [];
  const run = (fails: boolean): Promise<{ result: unknown[] }> => {
    const outbox = createOutbox();
    outbox.post("before");
    outbox.post(undefined);
    const onEvent = (event: { kind: string; line?: string }): void => {
      lines.push(String(event.line));
      if (event.line === "heard undefined") outbox.post("last");
      if (event.line === "heard last" && !fails) outbox.close();
    };
    return launch(hearing, { fails }, { ranks: 2, outbox, onEvent });
  };
  expect((await run(false)).result).toEqual(["before", undefined, "last"]);
  expect(lines).toEqual(["heard before", "heard undefined", "heard last", "closed"]);
  await expect(run(true)).rejects.toThrow(/^rank 1: broken/);
  expect(lines.at(-1)).toBe("closed");
});
