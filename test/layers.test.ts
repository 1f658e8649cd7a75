/** Arrows between layers point one way, and no file imports itself in a circle. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import ts from "typescript";
import { expect, it } from "vitest";

const SRC = new URL("../src", import.meta.url).pathname;
/** Top to bottom; folders in one row may use each other. */
const LAYERS = [
  ["cli"],
  ["api"],
  ["serve"],
  ["bench"],
  ["train"],
  ["infer"],
  ["data"],
  ["run"],
  ["model"],
  ["schedule"],
  ["simulate"],
  ["timeline"],
  ["program"],
  ["launch"],
  ["engine", "comm", "storage"],
  ["kernel"],
  ["core"],
];

const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter(
  (f) => f.endsWith(".ts") && !f.endsWith(".test.ts") && !f.includes("assembly/"),
);

/** Files that a text brings in by whatever form, types and what is imported while running included. */
function importsOf(text: string, folder: string): string[] {
  return ts
    .preProcessFile(text, true, true)
    .importedFiles.filter(({ fileName }) => fileName.startsWith("."))
    .map(({ fileName }) => relative(SRC, join(SRC, folder, fileName.replace(/\.js$/, ".ts"))));
}

const imports = new Map(
  files.map((file) => [file, importsOf(readFileSync(join(SRC, file), "utf8"), dirname(file))]),
);
const layerOf = (file: string): number => LAYERS.findIndex((row) => row.includes(file.split("/")[0]));

it("sees every form of import", () => {
  const text = `
    import "./effect.js";
    import type { A } from "./type.js";
    import { type B, c } from "../run/both.js";
    import {
      d,
    } from "./lines.js";
    export { e } from "./named.js";
    export * from "./all.js";
    export type { F } from "./exported-type.js";
    const g = await import("./dynamic.js");
    type H = import("./import-type.js").H;
    import z from "zod";
    // import "./comment.js";
  `;
  const names = "effect type lines named all exported-type dynamic import-type".split(" ");
  expect(importsOf(text, "plan").sort()).toEqual(
    ["run/both.ts", ...names.map((name) => `plan/${name}.ts`)].sort(),
  );
});

it("knows every folder", () => {
  for (const file of files) if (file.includes("/")) expect(layerOf(file), file).toBeGreaterThanOrEqual(0);
});

it("arrows point down", () => {
  const wrong: string[] = [];
  for (const [file, targets] of imports)
    for (const target of targets)
      if (file.includes("/") && layerOf(target) < layerOf(file)) wrong.push(`${file} → ${target}`);
  expect(wrong).toEqual([]);
});

it("has no import cycle", () => {
  const state = new Map<string, "open" | "done">();
  const cycles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      cycles.push([...path.slice(path.indexOf(file)), file].join(" → "));
      return;
    }
    state.set(file, "open");
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    state.set(file, "done");
  };
  for (const file of files) visit(file, []);
  expect(cycles).toEqual([]);
});
