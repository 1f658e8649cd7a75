/** Campaigns are listed by `npm run campaign` and in docs/testing.md, all of them and no others, and run from their name. */
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { expect, it } from "vitest";

const ROOT = new URL("..", import.meta.url).pathname;
const names = readdirSync(`${ROOT}test/campaign`)
  .filter((file) => file.endsWith(".ts") && file !== "campaign.ts")
  .map((file) => file.slice(0, -".ts".length))
  .sort();

function campaign(...args: string[]) {
  return spawnSync(process.execPath, ["scripts/campaign.mjs", ...args], { cwd: ROOT, encoding: "utf8" });
}

it("every file is a campaign, and says in its first line what it tests", () => {
  expect(names).toContain("fuzz");
  for (const name of names) {
    const text = readFileSync(`${ROOT}test/campaign/${name}.ts`, "utf8");
    expect(text, name).toMatch(/^\/\*\* .{20,} \*\/\n/);
    expect(text, name).toMatch(/^export (async function|const) campaign\b/m);
  }
});

it("the runner lists them with what they test", () => {
  const lines = campaign().stdout.trimEnd().split("\n");
  expect(lines.map((line) => line.split(/\s+/)[0])).toEqual(names);
  for (const line of lines) expect(line).toMatch(/^\S+\s+.{20,}$/);
});

it("docs/testing.md has a row for each", () => {
  const [, table] = readFileSync(`${ROOT}docs/testing.md`, "utf8").split("## Full runs");
  expect([...table.matchAll(/^\| `([\w-]+)` /gm)].map(([, name]) => name).sort()).toEqual(names);
});

it("mistakes on the runner's command line are one line and the usage", () => {
  for (const args of [
    ["fuz"],
    ["fuzz", "fuzz"],
    ["fuzz", "--seed", "1.5"],
    ["fuzz", "--cases", "0"],
    ["--what"],
  ]) {
    const { status, stderr } = campaign(...args);
    expect(status, args.join(" ")).toBe(2);
    expect(stderr.trimEnd().split("\n").at(-1)).toMatch(/^Usage: npm run campaign/);
  }
});

it("the npm package has no campaigns", () => {
  const { files } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8")) as { files: string[] };
  expect(files).toContain("!dist/campaign");
});
