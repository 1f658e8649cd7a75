// Do two built checkouts train the same bits on this machine?
//
//   node scripts/compare-checkouts.mjs OLD NEW [options]
//
// For a change that must not change results: trains every architecture × policy × ranks × style, and a table of
// options beside (compare/cases.mjs), with both checkouts' command lines and compares every row of metrics.jsonl
// (times apart) and, after every step, gradients, second moments and weights byte by byte. A line per case
// that differs says which figure or kind of tensor, from which step on, old and new value or number of bytes;
// a case that fails in a checkout differs. The last line counts. Exit 0: all equal, 1: some differ, 2: bad usage.
// Nothing is stored but, with --cache, a digest per case of OLD: they depend on processor and build.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ARCHITECTURES, POLICIES, RANKS, STYLES, listCases } from "./compare/cases.mjs";
import { UsageError, list, openCheckout, runScript, scmoe, wholeNumbers } from "./compare/checkout.mjs";
import { differences, digestOf, readOutcome } from "./compare/outcome.mjs";

const USAGE = `Usage: node scripts/compare-checkouts.mjs OLD NEW [options]
  OLD, NEW           directories of built checkouts
  --arch a,b         architectures (default: all)
  --policies p,q     default: ${POLICIES.join(",")}
  --ranks 1,2,4      default: ${RANKS.join(",")}
  --styles gpt,llama default: ${STYLES.join(",")}
  --steps 10         optimiser steps of a case
  --jobs 2           cases at a time
  --cache DIR        keep OLD's digests there: the next comparison with the same build runs NEW alone
  --list             print the cases and run nothing`;
const LONGEST_MS = 180_000;

await runScript(USAGE, async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      arch: { type: "string", default: ARCHITECTURES.join(",") },
      policies: { type: "string", default: POLICIES.join(",") },
      ranks: { type: "string", default: RANKS.join(",") },
      styles: { type: "string", default: STYLES.join(",") },
      steps: { type: "string", default: "10" },
      jobs: { type: "string", default: "2" },
      cache: { type: "string" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return void process.stdout.write(`${USAGE}\n`);
  const [steps] = wholeNumbers("steps", values.steps);
  const [jobs] = wholeNumbers("jobs", values.jobs);
  const cases = listCases({
    archs: list(values.arch),
    policies: list(values.policies),
    ranks: wholeNumbers("ranks", values.ranks),
    styles: list(values.styles),
    steps,
  });
  if (cases.length === 0) throw new UsageError("Nothing to compare: a list is empty");
  if (values.list) return void process.stdout.write(cases.map(({ name }) => `${name}\n`).join(""));
  if (positionals.length !== 2)
    throw new UsageError(`Wanted OLD and NEW; found ${positionals.length} arguments`);
  const [before, after] = positionals.map(openCheckout);
  if (values.cache !== undefined) mkdirSync(values.cache, { recursive: true });

  const scratch = mkdtempSync(join(tmpdir(), "scmoe-compare-"));
  process.on("exit", () => rmSync(scratch, { recursive: true, force: true, maxRetries: 5 }));
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));
  const digests = digestCache(values.cache, before);
  const runners = [before, after].map((checkout, i) => runner(checkout, join(scratch, String(i)), steps));
  return compareAll(cases, jobs, (one) => compareCase(one, runners, digests));
});

/** Trains a case in a directory of its own. The first case runs alone, so that the tokenizer is trained once. */
function runner(checkout, directory, steps) {
  mkdirSync(directory);
  let count = 0;
  let first;
  const train = async (one) => {
    const out = join(directory, String(count++));
    const sets = [...one.set, `data.cache=${join(directory, "data")}`].flatMap((set) => ["--set", set]);
    try {
      const args = ["train", "-q", "--json", "-o", out, "-n", String(one.ranks), ...sets];
      await scmoe(checkout, args, { cwd: directory, timeout: LONGEST_MS });
      return readOutcome(out, steps);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  };
  return async (one) => {
    if (first === undefined) return (first = train(one));
    await first.catch(() => undefined);
    return train(one);
  };
}

/** Digests by case of this build on this processor. */
function digestCache(directory, { path, stamp }) {
  const fileOf = (one) => {
    const key = JSON.stringify([path, stamp, one.ranks, one.set, process.version, cpus()[0]?.model]);
    return join(directory, createHash("sha256").update(key).digest("hex"));
  };
  return {
    get: (one) =>
      directory !== undefined && existsSync(fileOf(one)) ? readFileSync(fileOf(one), "utf8") : undefined,
    set: (one, digest) => directory === undefined || writeFileSync(fileOf(one), digest),
  };
}

/** @returns {Promise<string[]>} what differs */
async function compareCase(one, [runOld, runNew], digests) {
  const failed = [];
  const attempt = (who, run) =>
    run(one).catch((error) => void failed.push(`fails in ${who} (${error.message})`));
  const known = digests.get(one);
  let before = known === undefined ? await attempt("OLD", runOld) : undefined;
  const expected = known ?? (before && digestOf(before));
  if (known === undefined && expected !== undefined) digests.set(one, expected);
  const after = await attempt("NEW", runNew);
  if (failed.length > 0) return failed;
  if (digestOf(after) === expected) return [];
  before ??= await attempt("OLD", runOld);
  if (before === undefined) return failed;
  const found = differences(before, after);
  if (digestOf(before) !== expected) found.push("OLD does not repeat the result in the cache");
  return found;
}

/** @returns {Promise<number>} exit code */
async function compareAll(cases, jobs, compare) {
  const started = performance.now();
  const queue = [...cases];
  let done = 0;
  let differing = 0;
  const work = async () => {
    for (let one = queue.shift(); one !== undefined; one = queue.shift()) {
      const found = await compare(one);
      done++;
      if (found.length > 0) process.stdout.write(`${++differing}. ${one.name}: ${found.join("; ")}\n`);
      if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${cases.length}\r`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  const seconds = ((performance.now() - started) / 1e3).toFixed(0);
  process.stdout.write(`${cases.length - differing} cases equal, ${differing} differ (${seconds} s)\n`);
  return differing > 0 ? 1 : 0;
}
