// Long test campaigns: many cases made from a seed.
//
//   npm run campaign                                           lists them
//   npm run campaign -- NAME [--seed S] [--cases N] [--json]   runs one
//
// Builds dist/, bundles test/campaign/NAME.ts against it (so that worker threads find their modules, and every module is
// there once) and runs it. Progress goes to stderr; stdout ends with a line of figures, after a line per failure that
// says how to repeat it alone, and notes. Exit 1 when a case failed.
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundleCampaign } from "./bundle-campaign.mjs";
import { UsageError, runScript } from "./compare/checkout.mjs";

const USAGE =
  "Usage: npm run campaign -- NAME [--seed S] [--cases N] [--json]; without a name: what there is";
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = resolve(root, "test/campaign");

await runScript(USAGE, async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: "string", default: "1" },
      cases: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const names = listCampaigns();
  if (values.help) return print(USAGE);
  if (positionals.length === 0)
    return print(names.map((name) => `${name.padEnd(16)}${about(name)}`).join("\n"));
  const [name, ...rest] = positionals;
  if (rest.length > 0) throw new UsageError(`Wanted one name; found ${positionals.join(" ")}`);
  if (!names.includes(name)) throw new UsageError(`Unknown campaign "${name}" (known: ${names.join(", ")})`);
  const seed = wholeNumber("seed", values.seed, 0);
  const cases = values.cases === undefined ? undefined : wholeNumber("cases", values.cases, 1);

  /** @type {import("../test/campaign/campaign.ts").Campaign} */
  const campaign = await load(name);
  const started = performance.now();
  const result = await campaign({
    seed,
    cases,
    say: (line) => void process.stderr.write(`${name}: ${line}\n`),
  });
  const seconds = (performance.now() - started) / 1e3;
  const { length } = result.failures;
  if (values.json) print(JSON.stringify({ name, seed, seconds, ...result }, undefined, 2));
  else {
    for (const line of [...result.failures, ...(result.notes ?? [])]) print(line);
    print(`${name}: ${result.cases} cases, ${length} failures, ${seconds.toFixed(0)} s, seed ${seed}`);
  }
  return length === 0 ? 0 : 1;
});

/** Every file of the folder but the one that says what a campaign is. */
function listCampaigns() {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".ts") && file !== "campaign.ts")
    .map((file) => file.slice(0, -".ts".length))
    .sort();
}

/** @type {(name: string) => string} */
function about(name) {
  return /^\/\*\* (.*) \*\/\n/.exec(readFileSync(`${folder}/${name}.ts`, "utf8"))?.[1] ?? "";
}

/** @type {(option: string, text: string, least: number) => number} */
function wholeNumber(option, text, least) {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least)
    throw new UsageError(`--${option} takes a whole number from ${least}; found "${text}"`);
  return value;
}

/** @type {(text: string) => number} */
function print(text) {
  process.stdout.write(`${text}\n`);
  return 0;
}

/** @type {(name: string) => Promise<import("../test/campaign/campaign.ts").Campaign>} */
async function load(name) {
  const built = spawnSync(process.execPath, [resolve(root, "scripts/build.mjs")], {
    stdio: ["ignore", 2, 2],
  });
  if (built.status !== 0) throw new UsageError("The build failed");
  const { campaign } = await import(await bundleCampaign(name));
  return campaign;
}
