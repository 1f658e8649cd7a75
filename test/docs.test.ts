import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

const sources = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((path) =>
  path.endsWith(".ts"),
);

it("comments cite sections that docs/method.md has", () => {
  const method = readFileSync("docs/method.md", "utf8");
  const headings = new Set([...method.matchAll(/^##+ (\d+(?:\.\d+)?) /gm)].map(([, number]) => number));
  const cited = sources.flatMap((path) =>
    [...readFileSync(join("src", path), "utf8").matchAll(/\(method ([\d., ]+)/g)].flatMap(([, list]) =>
      list.split(/[, ]+/).map((number) => ({ path, number: number.replace(/\.$/, "") })),
    ),
  );
  expect(cited.length).toBeGreaterThan(20);
  expect(cited.filter(({ number }) => number !== "" && !headings.has(number))).toEqual([]);
});

it.each(["docs/method.md", "docs/glossary.md"])("%s names files that exist", (path) => {
  const named = [...readFileSync(path, "utf8").matchAll(/`((?:test\/)?[a-z][a-z/-]*\.ts)`/g)].map(
    ([, file]) => file,
  );
  const known = new Set([...sources.map((file) => file.replaceAll("\\", "/")), "test/paper.ts"]);
  expect(named.length).toBeGreaterThan(0);
  expect(named.filter((file) => !known.has(file))).toEqual([]);
});
