/** Many clients of a server: what is counted, and what is refused. */
import { afterEach, beforeAll, expect, it, vi } from "vitest";
import { askAlone, loadServer } from "../../src/bench/serve-load.js";
import { commandLine } from "../../src/cli/command-line.js";
import { temporaryDirectory } from "../helpers.js";
import { smallModel } from "../inference.js";
import { serve } from "./served.js";

const directory = temporaryDirectory();
beforeAll(() => smallModel(directory, { arch: "scmoe-pos2" }));
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

const run = (...line: string[]) =>
  commandLine({ speaks: false }).parseAsync(["bench", "serve", ...line], { from: "user" });

it("streams of clients at once are what each request gives alone", async () => {
  let printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  const sizes = ["--prompt-tokens", "20", "--new-tokens", "4", "--duration", "1"];
  await run(directory, "--ranks", "2", "--clients", "2,6", ...sizes, "--check", "--json");
  const results = JSON.parse(printed) as { requests: number; newTokens: number; hiddenShare: number }[];
  expect(results).toMatchObject([2, 6].map((clients) => ({ clients, refused: 0, errors: {}, unlike: 0 })));
  for (const { requests, newTokens, hiddenShare } of results) {
    expect(requests).toBeGreaterThan(0);
    expect(newTokens).toBe(4 * requests);
    expect(hiddenShare).toBeGreaterThanOrEqual(0);
    expect(hiddenShare).toBeLessThanOrEqual(1);
  }
  expect(process.exitCode).toBeUndefined();
});

it.each([
  [[], /wants a model or the --url of a server; found neither/],
  [["run", "--url", "http://127.0.0.1:1"], /found both/],
  [["--url", "nowhere"], /--url is "nowhere"/],
  [["run", "--clients", "8,0"], /wanted/],
  [["run", "--duration", "0"], /wanted/],
  [["run", "--quantize", "int3"], /choices/],
])("%j is refused", async (line, message) => {
  vi.spyOn(process.stderr, "write").mockImplementation(() => true);
  await expect(run(...line)).rejects.toThrow(message);
});

const SIZES = { promptTokens: 4, newTokens: 3, durationMs: 100 };

it("counts what is refused, what fails, and what is not as it was alone", async () => {
  const { url: address } = await serve({ slots: 1 }, { limits: { maxQueue: 1 } });
  const alone = await askAlone({ address, ...SIZES });
  const crowd = { address, ...SIZES, clients: 6 };
  const first = await loadServer({ ...crowd, alone });
  expect(first).toMatchObject({ unlike: 0, errors: {}, newTokens: 3 * first.requests });
  expect(first.refused).toBeGreaterThan(0);
  expect(first.firstTokenMs).toHaveLength(first.requests);
  const other = alone.map((answer) => ({ ...answer, text: "something else" }));
  const second = await loadServer({ ...crowd, alone: other });
  expect(second.unlike).toBe(second.requests);
});

it.each([
  ["a status", "401", { keys: ["a-key-that-is-long"] }],
  ["no connection", "connection", undefined],
])("tells %s apart", async (_, what, options) => {
  const address = options === undefined ? "http://127.0.0.1:1" : (await serve({}, options)).url;
  const { requests, errors } = await loadServer({ address, ...SIZES, clients: 2 });
  expect(requests).toBe(0);
  expect(Object.keys(errors)).toEqual([what]);
  await expect(askAlone({ address, ...SIZES })).rejects.toThrow(`with ${what}`);
});
