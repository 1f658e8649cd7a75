/** What `npm pack` makes: in an empty project the examples type-check against it under strict settings, and run. */
import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, it } from "vitest";
import { temporaryDirectory } from "../helpers.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLES = readdirSync(join(ROOT, "examples")).filter((name) => name.endsWith(".ts"));
const project = temporaryDirectory();
const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
  devDependencies: Record<string, string>;
};

function run(cwd: string, command: string, ...args: string[]): void {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" });
  expect(status, `${command} ${args.join(" ")}\n${stdout}${stderr}`).toBe(0);
}

beforeAll(() => {
  run(ROOT, "npm", "pack", "--ignore-scripts", "--pack-destination", project);
  const tarball = readdirSync(project).find((name) => name.endsWith(".tgz")) ?? "";
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const tools = ["typescript", "@types/node"].map((name) => `${name}@${devDependencies[name]}`);
  run(project, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", `./${tarball}`, ...tools);
});

it("type-checks under strict settings", () => {
  cpSync(join(ROOT, "examples"), join(project, "examples"), { recursive: true });
  const options = JSON.parse(readFileSync(join(ROOT, "examples/tsconfig.json"), "utf8")) as {
    compilerOptions: object;
  };
  expect(options.compilerOptions).toMatchObject({
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
  });
  run(project, join(project, "node_modules/.bin/tsc"), "-p", "examples", "--outDir", "out");
});

it.each(EXAMPLES)("%s runs", (name) => {
  run(project, process.execPath, join("out", name.replace(/\.ts$/, ".js")));
});
