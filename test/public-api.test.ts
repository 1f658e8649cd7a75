/** What the package exports is decided, not accidental: docs/api.txt lists it. `UPDATE_API=1 npx vitest run test/public-api.test.ts` writes it anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { type PublicExport, publicExports } from "./public-api.js";

const ENTRIES = { "index.ts": "scmoe", "plan.ts": "scmoe/plan" } as const;
/** What only sessions and engines read of an operator: it changes with every new kind. */
const INTERNAL = new Set(["Kernel", "KindData", "OperatorOf", "Symbols"]);
const LIST = new URL("../docs/api.txt", import.meta.url);

const found = publicExports(["index.ts", "plan.ts"] as const);

it.each(Object.entries(ENTRIES))("%s: every export says what it is", (entry) => {
  const silent = found.get(entry as keyof typeof ENTRIES)?.filter(({ summary }) => summary === "");
  expect(silent?.map(({ name }) => name)).toEqual([]);
});

it.each(Object.entries(ENTRIES))("%s: what a signature mentions is exported, too", (entry) => {
  const exports = found.get(entry as keyof typeof ENTRIES) ?? [];
  const names = new Set([...INTERNAL, ...exports.map(({ name }) => name)]);
  const hidden = exports.flatMap(({ name, mentions }) =>
    mentions
      .filter(({ type }) => !names.has(type))
      .map(({ type, where }) => `${name} mentions ${type} (${where})`),
  );
  expect(hidden).toEqual([]);
});

it("is what docs/api.txt lists", () => {
  const inPlan = found.get("plan.ts") ?? [];
  const names = new Set(inPlan.map(({ name }) => name));
  const others = (found.get("index.ts") ?? []).filter(({ name }) => !names.has(name));
  const line = ({ name, kind, summary }: PublicExport): string => `${kind} ${name}: ${summary}`;
  const lines = ["# scmoe/plan", ...inPlan.map(line), "# scmoe: all of scmoe/plan, and", ...others.map(line)];
  if (process.env.UPDATE_API !== undefined) writeFileSync(LIST, `${lines.join("\n")}\n`);
  expect(readFileSync(LIST, "utf8").trim().split("\n")).toEqual(lines);
});

it("scmoe has all of scmoe/plan", () => {
  const names = new Set(found.get("index.ts")?.map(({ name }) => name));
  expect(found.get("plan.ts")?.filter(({ name }) => !names.has(name))).toEqual([]);
});
