// Is a checkout slower than another on this machine?
//
//   node scripts/compare-speed.mjs OLD NEW [--rounds 9] [--start]
//
// Runs `bench step` and `bench compare` (two ranks as threads, one link for all runs: chosen once with OLD so
// that communication takes 30 % of sequential top-2's forward step) with two built checkouts in turn, OLD NEW
// NEW OLD …, so that both meet the same weather. A line per step time: median of OLD and of NEW in ms, and the
// median of NEW / OLD over the pairs of neighbouring runs, with their least and largest and the ratio of the
// fastest runs, which other work on the machine disturbs least. Medians above 1.03 are marked and give exit 1;
// believe one only if the machine was idle otherwise and the fastest runs agree.
// --start also times one `npm start` of each: about four minutes more for each.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { UsageError, openCheckout, runScript, scmoe, wholeNumbers } from "./compare/checkout.mjs";

const USAGE = "Usage: node scripts/compare-speed.mjs OLD NEW [--rounds 9] [--start]";
const TOLERANCE = 1.03;
const LONGEST_MS = 900_000;
const STEP = ["bench", "step", "--json", "--width", "256", "--rounds", "9"];
const COMPARE = [
  ...["bench", "compare", "--json", "--ranks", "2", "--width", "256", "--pairs", "2", "--rounds", "5"],
  ...["--modes", "forward,train", "--archs", "top2:sequential scmoe-pos2:adaptive scmoe-pos3:adaptive"],
];
const SHARE = ["--communication-share", "0.3"];

await runScript(USAGE, async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "9" },
      start: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return void process.stdout.write(`${USAGE}\n`);
  if (positionals.length !== 2)
    throw new UsageError(`Wanted OLD and NEW; found ${positionals.length} arguments`);
  const [rounds] = wholeNumbers("rounds", values.rounds);
  const checkouts = positionals.map(openCheckout);

  const cwd = mkdtempSync(join(tmpdir(), "scmoe-speed-"));
  process.on("exit", () => rmSync(cwd, { recursive: true, force: true, maxRetries: 5 }));
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));
  const run = (checkout, args) => scmoe(checkout, args, { cwd, timeout: LONGEST_MS });
  const stepTimes = async (checkout, args) => findStepTimes(JSON.parse(await run(checkout, args)), args);

  const { link } = JSON.parse(await run(checkouts[0], [...COMPARE, ...SHARE]));
  const linkText = `${((link.bytesPerMs * 8) / 1e3).toFixed(3)}mbit,${(link.latencyMs * 1e3).toFixed(0)}us`;
  process.stdout.write(`link ${linkText}, ${rounds} rounds\n`);
  const slower = [
    await inTurn(checkouts, rounds, (checkout) => stepTimes(checkout, STEP)),
    await inTurn(checkouts, rounds, (checkout) => stepTimes(checkout, [...COMPARE, "--link", linkText])),
  ];
  if (values.start)
    slower.push(
      await inTurn(checkouts, 1, async (checkout) => {
        const started = performance.now();
        await run(checkout, ["start", "--json"]);
        return new Map([["start", performance.now() - started]]);
      }),
    );
  return slower.some((count) => count > 0) ? 1 : 0;
});

/**
 * Measures both checkouts in turn and prints the figures.
 * @param measure checkout → ms by figure
 * @returns how many figures are slower than tolerated
 */
async function inTurn(checkouts, rounds, measure) {
  const pairs = [];
  for (let round = 0; round < rounds; round++) {
    const pair = [];
    for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) pair[i] = await measure(checkouts[i]);
    pairs.push(pair);
    if (process.stderr.isTTY) process.stderr.write(`\rround ${round + 1} of ${rounds}\r`);
  }
  let slower = 0;
  for (const name of pairs[0][0].keys()) {
    const [before, after] = [0, 1].map((i) => pairs.map((pair) => pair[i].get(name)));
    if (after.includes(undefined)) throw new Error(`NEW does not report ${name}`);
    const ratios = after.map((ms, i) => ms / before[i]);
    const ratio = median(ratios);
    const fastest = Math.min(...after) / Math.min(...before);
    if (ratio > TOLERANCE) slower++;
    const times = [before, after].map((all) => median(all).toFixed(1).padStart(9)).join(" → ");
    const range = `${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}`;
    process.stdout.write(
      `${name.padEnd(36)} ${times} ms  × ${ratio.toFixed(3)} (${range}; fastest ${fastest.toFixed(3)})` +
        `${ratio > TOLERANCE ? "  SLOWER" : ""}\n`,
    );
  }
  return slower;
}

/** Step times wherever they stand in the output: every object with a `stepMs` is one, named by what it says it is. */
function findStepTimes(output, args) {
  const found = new Map();
  const visit = (value) => {
    if (typeof value !== "object" || value === null) return;
    if (typeof value.stepMs === "number") {
      const words = [value.arch, value.policy, value.mode].filter((word) => typeof word === "string");
      found.set([args[1], ...words].join(" "), value.stepMs);
    }
    Object.values(value).forEach(visit);
  };
  visit(output);
  if (found.size === 0) throw new Error(`No stepMs in the output of ${args.join(" ")}`);
  return found;
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
