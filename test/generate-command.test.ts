/** `scmoe generate`: where prompts come from, batches, ranks, quantised weights, and how it is stopped. */
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { generateBatch, openGenerator } from "../src/index.js";
import type { Written } from "../src/infer/generate.js";
import { CLI, type Ran, temporaryDirectory } from "./helpers.js";
import { smallModel } from "./inference.js";

const dir = temporaryDirectory();
const model = join(dir, "run");

/** @param input what the standard input has */
function run(args: readonly string[], input = ""): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, "generate", model, ...args], {
    ...{ cwd: dir, input, encoding: "utf8", timeout: 60_000, killSignal: "SIGKILL" },
  });
  return { code: status, stdout, stderr };
}
const linesOf = ({ stdout }: Ran): Written[] =>
  stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Written);

const REQUESTS = [
  { prompt: "The people of this nation", id: "a", seed: 5, maxNewTokens: 12 },
  { prompt: [5, 6, 7], id: { n: 2 }, temperature: 0, logprobs: 2 },
  { prompt: "", stop: ["e", "a"], maxNewTokens: 40 },
];
const file = join(dir, "requests.jsonl");

beforeAll(async () => {
  await smallModel(model, { arch: "scmoe-pos2" });
  writeFileSync(file, REQUESTS.map((request) => JSON.stringify(request)).join("\n"));
  writeFileSync(join(dir, "prompt.txt"), "The people\n");
});

it("takes the same prompt from an argument, a flag, a file and the standard input", () => {
  const few = ["--tokens", "4"];
  const wanted = run(["The people", ...few]);
  expect([wanted.code, wanted.stdout.startsWith("The people")]).toEqual([0, true]);
  const others = [
    run(["--prompt", "The people", ...few], "not this"),
    run(["--prompt-file", "prompt.txt", ...few]),
    run(few, "The people\n"),
    run(["-", ...few], "The people"),
  ];
  for (const { stdout } of others) expect(stdout).toBe(wanted.stdout);
});

it.each([
  [["a", "--prompt", "b"], /^scmoe: generate goes on from one prompt/],
  [["--batch", "requests.jsonl", "a"], /^scmoe: --batch has prompts of its own/],
  [["--prompt-file", "none"], /^scmoe: .*the prompt none: /],
  [["a", "--stop", ""], /^scmoe: A stop string is empty/],
  [["a", "--logprobs", "2"], /^scmoe: --logprobs .*--json/],
  [["a", "--quantize", "int3"], /^scmoe: option '--quantize <form>'/],
  [["a", "--policy", "magic"], /^scmoe: Unknown policy "magic"/],
  [["a", "--link", "fast"], /^scmoe: .*10gbit,20us/],
])("refuses %j in one line", (args, message) => {
  const { code, stdout, stderr } = run(args);
  expect([code, stdout, stderr.split("\n").length]).toEqual([2, "", 2]);
  expect(stderr).toMatch(message);
});

it("refuses an input that is not UTF-8", () => {
  const { status, stderr } = spawnSync(process.execPath, [CLI, "generate", model], {
    ...{ input: Buffer.of(0x61, 0xff), encoding: "utf8" },
  });
  expect([status, stderr]).toEqual([
    2,
    "scmoe: standard input is not UTF-8; wanted the prompt as UTF-8 text\n",
  ]);
});

it("writes a batch as its requests are written alone, on one rank or two, in one slot or many", async () => {
  const options = ["--batch", "requests.jsonl", "--tokens", "9"];
  const batch = linesOf(run(options));
  expect(batch).toMatchObject([{ id: "a", newTokens: 12 }, { id: { n: 2 }, newTokens: 9 }, {}]);
  expect(batch[1].logprobs).toHaveLength(9);
  expect(batch[1].logprobs?.[0]).toMatchObject({ id: batch[1].ids[0], rank: 0 });
  expect(batch[1].logprobs?.[0].top).toHaveLength(2);
  const two = ["-n", "2", "--slots", "1", "--policy", "pipelined(2)", "--link", "10gbit,20us"];
  expect(linesOf(run([...options, ...two, "--cache-memory", "1MB"]))).toEqual(batch);
  expect(linesOf(run(["--batch", "-", "--tokens", "9"], JSON.stringify(REQUESTS[1])))).toEqual([batch[1]]);

  const generator = await openGenerator({ model });
  if (generator === undefined) throw new Error("there is no launcher");
  for (const [i, { id: _id, prompt, ...request }] of REQUESTS.entries())
    expect(batch[i]).toMatchObject(await generator.generate(prompt, { maxNewTokens: 9, ...request }));
  await generator.close();
});

it("refuses a batch of which one line is bad, by file and line, before anything is written", () => {
  for (const [bad, message] of [
    ['{"prompt": "b", "topK": -1}', /^scmoe: standard input:2: topK is -1; wanted [^\n]*\n$/],
    ['{"prompt": [300]}', /\nscmoe: standard input:2: The prompt has token 300; [^\n]*\n$/],
  ] as const) {
    const { code, stdout, stderr } = run(["--batch", "-"], `{"prompt": "a"}\n${bad}\n`);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(message);
  }
});

it("tells texts in the order of the requests, and ends all where its signal is aborted", async () => {
  const requests = [30, 2, 5].map((maxNewTokens) => ({ prompt: "The", maxNewTokens, seed: maxNewTokens }));
  const told: number[] = [];
  const controller = new AbortController();
  const written = await generateBatch({ model, requests, onWritten: (_, i) => told.push(i) });
  expect(told).toEqual([0, 1, 2]);
  expect(written.map(({ newTokens }) => newTokens)).toEqual([30, 2, 5]);
  controller.abort();
  const none = await generateBatch({ model, requests, signal: controller.signal });
  expect(none.map(({ stopped, newTokens }) => [stopped, newTokens])).toEqual(
    new Array(3).fill(["aborted", 0]),
  );
});

it("quantised weights write another text, and the same one again", () => {
  const write = (...how: string[]): string =>
    run(["The people", "--temperature", "0", "--tokens", "8", "--json", "--logprobs", "0", ...how]).stdout;
  const int4 = write("--quantize", "int4");
  expect(int4).not.toBe(write());
  expect(int4).not.toBe(write("--quantize", "int8"));
  expect(write("--quantize", "int4", "-n", "2")).toBe(int4);
});

it("Ctrl-C ends the text, which is complete as far as it goes, and exits 130", async () => {
  const child = spawn(process.execPath, [CLI, "generate", model, "The", "--tokens", "1000000000"]);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data: Buffer) => {
    if (stdout === "") child.kill("SIGINT");
    stdout += data.toString();
  });
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  const code = await new Promise((resolve) => child.on("close", resolve));
  expect([code, stdout.startsWith("The"), stdout.endsWith("\n")]).toEqual([130, true, true]);
  expect(stderr).toMatch(/Interrupted: ending the text; press Ctrl-C again to exit at once\n$/);
});

it("ends quietly when nobody reads on", () => {
  const line = 'set -o pipefail; "$0" "$1" generate "$2" The --tokens 1000000000 2>/dev/null | head -c 5';
  const { status, stdout } = spawnSync("bash", ["-c", line, process.execPath, CLI, model], {
    ...{ encoding: "utf8", timeout: 60_000 },
  });
  expect([status, stdout.slice(0, 3)]).toEqual([141, "The"]);
});
