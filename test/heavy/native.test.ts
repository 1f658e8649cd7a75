/** The ranks of native/mpi against a stand-in for MPI, under sanitizers. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";

const SCRIPT = join(import.meta.dirname, "../../scripts/check-native.mjs");

const check = (
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, ...args], {
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  return { status, output: stdout + stderr };
};

it("exchanges, failing peers and early ends give no report of ThreadSanitizer, nor of AddressSanitizer", () => {
  const { status, output } = check(["--seconds", "15"]);
  expect(output).toMatch(/^ThreadSanitizer \(.*\): 0 reports; .* complaints 0$/m);
  expect(output).toMatch(/^AddressSanitizer \(.*\): 0 reports; .* complaints 0$/m);
  expect(status).toBe(0);
});

it("says in one line per sanitizer that no compiler has it", () => {
  const { status, output } = check([], { CXX: "no-such-compiler" });
  expect(output.trim().split("\n")).toEqual(
    ["Thread", "Address"].map(
      (name) => `${name}Sanitizer: skipped: none of no-such-compiler builds programs with it that run here`,
    ),
  );
  expect(status).toBe(0);
});
