/** The examples, compiled against the package by its own name; each checks itself. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

it("npm run examples", () => {
  const { status, stdout, stderr } = spawnSync("npm", ["run", "--silent", "examples"], {
    cwd: ROOT,
    encoding: "utf8",
  });
  expect(status, stdout + stderr).toBe(0);
  const ran = [...stdout.matchAll(/^== (.*)$/gm)].map(([, name]) => name);
  expect(ran).toEqual(readdirSync(`${ROOT}examples`).filter((name) => name.endsWith(".ts")));
});
