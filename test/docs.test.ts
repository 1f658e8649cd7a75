/** What documents and comments point to is there: files, and sections of the method. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, it } from "vitest";

const ROOT = new URL("..", import.meta.url).pathname;
const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");
const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((file) =>
  file.endsWith(".ts"),
);
const sections = new Set(
  [...read("docs/method.md").matchAll(/^#+ (\d+(?:\.\d+)?) /gm)].map(([, number]) => number),
);
const matches = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map(([, found]) => found);

/** Under `src`, or from the top; a file's name alone when its folder is clear from the text. */
function isThere(path: string): boolean {
  if (path.includes("/")) return existsSync(join(ROOT, "src", path)) || existsSync(join(ROOT, path));
  return sources.some((file) => basename(file) === path);
}

it.each([
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "docs/glossary.md",
  "docs/method.md",
  "docs/predictions.md",
  "docs/testing.md",
])("%s names only files that exist", (document) => {
  const text = read(document);
  const folders = readdirSync(join(ROOT, "src")).concat(
    "src",
    "test",
    "docs",
    "native",
    "scripts",
    "examples",
  );
  const named = matches(text, /`([\w.-]+(?:\/[\w.-]*)*)`/g).filter(
    (path) => path.endsWith(".ts") || (path.includes("/") && folders.includes(path.split("/")[0])),
  );
  expect(named.length).toBeGreaterThan(0);
  expect(named.filter((path) => !isThere(path))).toEqual([]);
});

it("comments cite sections of docs/method.md that it has", () => {
  const cited = sources.flatMap((file) =>
    matches(read(join("src", file)), /\bmethod (\d+(?:\.\d+)?)/g).map((number) => ({ file, number })),
  );
  expect(sections.size).toBeGreaterThan(10);
  expect(cited.length).toBeGreaterThan(0);
  expect(cited.filter(({ number }) => !sections.has(number))).toEqual([]);
  // A specification is nothing that a reader has.
  expect(
    sources.filter((file) => /\(?spec(ification)?\b[^)]*section \d/.test(read(join("src", file)))),
  ).toEqual([]);
});

it("the glossary refers to sections that the method has", () => {
  const cited = matches(read("docs/glossary.md"), /; (\d+(?:\.\d+)?)\)/g);
  expect(cited.length).toBeGreaterThan(10);
  expect(cited.filter((number) => !sections.has(number))).toEqual([]);
});
