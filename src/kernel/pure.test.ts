/** Expressions, derivatives and encoders run anywhere: they reach for nothing of Node, and for no package. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, it } from "vitest";

const HERE = new URL(".", import.meta.url).pathname;

it("nothing outside the language is used, here or in what is imported", () => {
  const open = readdirSync(HERE, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map((file) => join(HERE, file));
  const seen = new Set(open);
  const found: string[] = [];
  for (const file of open) {
    const code = readFileSync(file, "utf8").replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, "");
    for (const [, specifier] of code.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)) {
      const target = join(dirname(file), specifier.replace(/\.js$/, ".ts"));
      if (!specifier.startsWith(".")) found.push(`${relative(HERE, file)} imports ${specifier}`);
      else if (!seen.has(target)) open.push(target);
      seen.add(target);
    }
    for (const [name] of code.matchAll(/\b(?:process|Buffer|require|__dirname)\b/g))
      found.push(`${relative(HERE, file)} uses ${name}`);
  }
  expect(found).toEqual([]);
  expect(seen.size).toBeGreaterThan(15);
});
