/** Arrows between layers point one way, and no file imports itself in a circle. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, it } from "vitest";

const SRC = new URL("../src", import.meta.url).pathname;
/** Top to bottom; folders in one row may use each other. */
const LAYERS = [
  ["cli"],
  ["api"],
  ["bench", "plan"],
  ["train", "infer", "data"],
  ["run"],
  ["model"],
  ["moe"],
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
const imports = new Map(
  files.map((file) => {
    const text = readFileSync(join(SRC, file), "utf8");
    const found = [...text.matchAll(/^(?:import|export)\s(type\s)?[^;]*?from "(\.[^"]+)\.js"/gms)];
    return [
      file,
      found.map((m) => ({
        target: relative(SRC, join(SRC, dirname(file), `${m[2]}.ts`)),
        isType: m[1] !== undefined,
      })),
    ];
  }),
);
const layerOf = (file: string): number => LAYERS.findIndex((row) => row.includes(file.split("/")[0]));

it("knows every folder", () => {
  for (const file of files) if (file.includes("/")) expect(layerOf(file), file).toBeGreaterThanOrEqual(0);
});

it("arrows point down", () => {
  const wrong: string[] = [];
  for (const [file, targets] of imports)
    for (const { target } of targets)
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
    for (const { target, isType } of imports.get(file) ?? []) if (!isType) visit(target, [...path, file]);
    state.set(file, "done");
  };
  for (const file of files) visit(file, []);
  expect(cycles).toEqual([]);
});
