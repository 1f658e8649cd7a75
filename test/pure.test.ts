/** `scmoe/plan` runs anywhere: nothing that it imports, however far down, reaches for files, threads or native code. */
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { runInNewContext } from "node:vm";
import { buildSync } from "esbuild";
import { expect, it } from "vitest";
import type { Prediction } from "../src/plan.js";

const SRC = new URL("../src", import.meta.url).pathname;
const ENTRY = "plan.ts";
/** A schema library, and the script of the timeline page: a string that the build bundles. */
const PURE_PACKAGES = new Set(["zod", "#page-script"]);
const STATEMENT = /^(?:import|export)\s(?!type\s)(?:[^;]*?from\s)?"([^"]+)"/gms;

/** Chains of files from the entry to whatever is not pure. */
function impureChains(entry: string): string[] {
  const found: string[] = [];
  const seen = new Set<string>();
  const visit = (file: string, chain: readonly string[]): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(join(SRC, file), "utf8");
    const path = [...chain, file];
    const usesGlobals = /\bprocess\.|\bBuffer\.|\brequire\(/.exec(text.replace(/\/\*.*?\*\/|\/\/.*$/gms, ""));
    if (usesGlobals !== null) found.push([...path, usesGlobals[0]].join(" → "));
    for (const [, target] of text.matchAll(STATEMENT))
      if (target.startsWith("."))
        visit(relative(SRC, join(SRC, dirname(file), target.replace(/\.js$/, ".ts"))), path);
      else if (!PURE_PACKAGES.has(target)) found.push([...path, target].join(" → "));
  };
  visit(entry, []);
  return found;
}

it("imports nothing that a browser lacks", () => {
  expect(impureChains(ENTRY)).toEqual([]);
});

it("would be told of a chain", () => {
  expect(impureChains("storage/files.ts")).toContain("storage/files.ts → node:fs");
});

it("bundles for a browser, and predicts where there is nothing but JavaScript", () => {
  const text = buildSync({
    entryPoints: [new URL("../dist/plan.js", import.meta.url).pathname],
    bundle: true,
    write: false,
    format: "iife",
    globalName: "scmoe",
    platform: "browser",
  }).outputFiles[0].text;
  const script = `${text}; JSON.stringify(scmoe.plan({
    model: "tiny", cases: [{ arch: "top2", policy: "sequential" }, { arch: "scmoe-pos2", policy: "adaptive" }],
  }).rows)`;
  const rows = JSON.parse(runInNewContext(script) as string) as Prediction["rows"];
  expect(rows).toHaveLength(2);
  expect(rows[1].speedUp).toBeGreaterThan(1);
});
