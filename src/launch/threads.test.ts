/** What becomes of the other ranks when a rank's thread breaks down in a way that it cannot report itself. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../../test/helpers.js";
import { launchThreads } from "./threads.js";

const dist = (path: string): string => new URL(`../../dist/${path}`, import.meta.url).href;
const folder = temporaryDirectory();

/** Ranks that meet for ever, until rank 1 does `trouble`. */
function entry(name: string, trouble: string): URL {
  const file = join(folder, `${name}.mjs`);
  writeFileSync(
    file,
    `import { parentPort, workerData, threadId } from "node:worker_threads";
     import { joinThreads } from "${dist("comm/threads/threads.js")}";
     import { barrier } from "${dist("comm/collectives.js")}";
     const { rank, board } = workerData;
     const world = joinThreads(board, rank);
     try {
       for (let step = 0; ; step++) {
         barrier(world, "step " + step).wait();
         if (rank === 1 && step === 3) { ${trouble} }
       }
     } catch (error) {
       world.abort(error.message);
       parentPort.postMessage({ kind: "error", message: error.message, exitCode: 1, aboutPeer: error.name === "CommError" });
     } finally { world.close(); }`,
  );
  return pathToFileURL(file);
}

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
])("a rank that %s ends the launch, by name", async (name, trouble, message) => {
  const launched = launchThreads(
    { job: "none", options: {} },
    { ranks: 3, quiet: true, deadlineMs: 1_000 },
    entry(name.replaceAll(" ", "-"), trouble),
  );
  await expect(launched).rejects.toThrow(message);
});
