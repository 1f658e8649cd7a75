/** CI's share of every campaign, at most a minute each, through the runner. Full runs: docs/testing.md. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SHARES: Readonly<Record<string, number>> = {
  batching: 8_000,
  fuzz: 20_000,
  "io-faults": 25,
  kills: 5,
  layouts: 80,
  requests: 30_000,
  soak: 1,
};

it("every campaign has a share", () => {
  const files = readdirSync(`${ROOT}test/campaign`).filter((file) => file.endsWith(".ts"));
  expect(Object.keys(SHARES).sort()).toEqual(
    files
      .map((file) => file.slice(0, -".ts".length))
      .filter((name) => name !== "campaign")
      .sort(),
  );
});

it.each(Object.entries(SHARES))("%s", (name, cases) => {
  const args = ["scripts/campaign.mjs", name, "--cases", String(cases), "--json"];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: ROOT,
    encoding: "utf8",
    timeout: 280_000,
    killSignal: "SIGKILL",
    maxBuffer: 2 ** 26,
  });
  const result = status === null ? undefined : (JSON.parse(stdout) as { cases: number; failures: string[] });
  expect(result?.failures, stderr).toEqual([]);
  expect(result?.cases).toBeGreaterThan(0);
  expect(status).toBe(0);
});
