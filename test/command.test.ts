/** The command that npm links: `bin/scmoe.mjs`. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "./helpers.js";

const ROOT = new URL("..", import.meta.url).pathname;
const packageJson = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
  readonly version: string;
  readonly bin: { readonly scmoe: string };
};
const command = join(ROOT, packageJson.bin.scmoe);

it("is committed executable, and says its version and nothing else", () => {
  expect(statSync(command).mode & 0o111).toBe(0o111);
  const { status, stdout, stderr } = spawnSync(command, ["--version"], { encoding: "utf8" });
  expect([status, stdout, stderr]).toEqual([0, `${packageJson.version}\n`, ""]);
});

it("ends quietly when nobody reads on", () => {
  const line = 'set -o pipefail; { sleep 0.2; "$0" --help; } | true';
  const { status, stderr } = spawnSync("bash", ["-c", line, command], { encoding: "utf8" });
  expect([status, stderr]).toEqual([141, ""]);
});

it.each([
  ["a disk that is full", "--help > /dev/full", 1, "scmoe: Cannot write the output: the disk is full\n"],
  ["an error, too, on a full disk", "nonsense 2> /dev/full", 1, ""],
  ["an output closed from the start", "--help >&-", 0, ""],
])("leaves %s behind without a stack trace", (_, line, code, said) => {
  const { status, stderr } = spawnSync("bash", ["-c", `"$0" ${line}`, command], { encoding: "utf8" });
  expect([status, stderr]).toEqual([code, said]);
});

it("says in one line what to do where nothing is built", () => {
  const clone = temporaryDirectory();
  mkdirSync(join(clone, "bin"));
  copyFileSync(command, join(clone, "bin", "scmoe.mjs"));
  const { status, stderr } = spawnSync(process.execPath, [join(clone, "bin", "scmoe.mjs")], {
    encoding: "utf8",
  });
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^[^\n]*not built[^\n]*npm run build\n$/)]);
});
