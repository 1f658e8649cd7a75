/** A folder behind a port: the function, and the command with its flags. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { ServeOptions } from "../../src/api/serve-options.js";
import { startServing } from "../../src/api/serving.js";
import { addServe } from "../../src/cli/commands/serve.js";
import { saveTokenizer } from "../../src/data/tokenizer.js";
import { readServedModel } from "../../src/serve/read-model.js";
import { FakeEngine } from "./fake-engine.js";
import { bpe, tokenizer } from "./model.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-serve-"));
const bare = mkdtempSync(join(tmpdir(), "scmoe-serve-"));
const HF = new URL("../fixtures/hf/llama/", import.meta.url).pathname;
beforeAll(() => {
  const config = JSON.parse(readFileSync(`${HF}config.json`, "utf8")) as object;
  for (const into of [folder, bare]) {
    for (const name of ["generation_config.json", "model.safetensors"])
      copyFileSync(`${HF}${name}`, join(into, name));
    // Weights are not looked at before there is an engine.
    writeFileSync(join(into, "config.json"), JSON.stringify({ ...config, vocab_size: tokenizer.vocabSize }));
  }
  saveTokenizer(bpe, join(folder, "tokenizer.json"));
  writeFileSync(
    join(folder, "tokenizer_config.json"),
    JSON.stringify({ chat_template: "{{ messages[0].content }}" }),
  );
});
afterAll(() => {
  for (const path of [folder, bare]) rmSync(path, { recursive: true });
});

const engines: FakeEngine[] = [];
const asked: ServeOptions[] = [];
afterEach(() => void [engines, asked].map((list) => list.splice(0)));
const openEngine = (options: ServeOptions) => {
  asked.push(options);
  const engine = new FakeEngine({ vocabSize: tokenizer.vocabSize, script: [65] });
  engines.push(engine);
  return Promise.resolve({ engine, timeline: () => "a page" });
};

describe("readServedModel()", () => {
  it("knows the tokenizer, its chat template, and where texts end", () => {
    const model = readServedModel(folder, "mine");
    expect(model).toMatchObject({ name: "mine", endTokens: [2], chatTemplate: { isPlain: false } });
    expect(model.tokenizer?.decode([65, 66])).toBe(tokenizer.decode([65, 66]));
    expect([...model.vocabulary.special]).toEqual([tokenizer.endOfText]);
  });

  it("is content with token ids", () => {
    expect(readServedModel(bare)).toMatchObject({
      endTokens: [2],
      name: bare.split("/").at(-1),
    });
    expect(readServedModel(bare).tokenizer).toBeUndefined();
    expect(() => readServedModel(join(bare, "nothing"))).toThrow(/nothing/);
  });
});

async function served(options: Partial<ServeOptions> = {}) {
  const serving = await startServing({ model: folder, port: 0, ...options }, openEngine);
  if (serving === undefined) throw new Error("Nothing serves");
  return serving;
}

describe("serve()", () => {
  it("answers until it is drained, and closes the engine", async () => {
    const serving = await served({ name: "mine" });
    const close = vi.spyOn(engines[0], "close");
    const models = await fetch(`${serving.address}/v1/models`);
    expect(await models.json()).toMatchObject({ data: [{ id: "mine", max_model_len: 256 }] });
    expect(await (await fetch(`${serving.address}/debug/timeline`)).text()).toBe("a page");
    await serving.drain(1_000);
    expect(close).toHaveBeenCalledTimes(1);
    await expect(fetch(`${serving.address}/health`)).rejects.toThrow();
  });

  it("says when the engine is lost", async () => {
    const serving = await served();
    const body = JSON.stringify({ prompt: "a", max_tokens: 200, stream: true, ignore_eos: true });
    const headers = { "content-type": "application/json" };
    const asking = fetch(`${serving.address}/v1/completions`, { method: "POST", body, headers });
    await engines[0].until(() => engines[0].requests.length > 0);
    engines[0].fail(new Error("gone"));
    await expect(serving.lost).rejects.toThrow(/ranks of the model are lost/);
    await asking;
    await serving.drain(1_000);
  });

  it("refuses what makes no sense before it opens the model", async () => {
    for (const [options, message] of [
      [{ host: "0.0.0.0" }, /there is no API key/],
      [{ keys: ["short"] }, /at least 8/],
      [{ limits: { maxQueue: -1 } }, /maxQueue is -1/],
      [{ model: "nowhere" }, /nowhere/],
    ] as const)
      await expect(startServing({ model: folder, port: 0, ...options }, openEngine)).rejects.toThrow(message);
    expect(asked).toEqual([]);
  });

  it("closes the engine where the port cannot be had", async () => {
    const serving = await served();
    const close = vi.spyOn(FakeEngine.prototype, "close");
    const port = Number(new URL(serving.address).port);
    await expect(startServing({ model: folder, port }, openEngine)).rejects.toThrow(/in use/);
    expect(close).toHaveBeenCalledTimes(1);
    close.mockRestore();
    await serving.drain(1_000);
  });
});

describe("scmoe serve", () => {
  const run = (...line: string[]) => {
    const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
    addServe(program, openEngine);
    for (const command of program.commands)
      command.exitOverride().configureOutput({ writeErr: () => undefined });
    return program.parseAsync(["serve", ...line], { from: "user" });
  };

  it("serves until it is asked to end", async () => {
    const said = new Promise<string>((resolve) =>
      vi.spyOn(process.stderr, "write").mockImplementation((text) => {
        resolve(String(text));
        return true;
      }),
    );
    vi.stubEnv("SCMOE_API_KEY", "first-key-1234,second-key-1234");
    const flags = ["--port", "0", "--ranks", "2", "--max-queue", "8", "--log", "silent"];
    try {
      const running = run(folder, ...flags, "--api-key", "third-key-1234", "--timeout", "5");
      const [url] = /http:\S+\d/.exec(await said) ?? [];
      const ask = (key: string) => fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
      for (const key of ["first", "second", "third"]) expect((await ask(`${key}-key-1234`)).status).toBe(200);
      expect((await ask("other-key-1234")).status).toBe(401);
      process.emit("SIGTERM");
      await running;
      await expect(fetch(`${url}/health`)).rejects.toThrow();
    } finally {
      vi.unstubAllEnvs();
      vi.restoreAllMocks();
    }
    expect(asked[0]).toMatchObject({
      ranks: 2,
      limits: { maxQueue: 8, maxSequences: 8, requestTimeoutMs: 5_000, maxBodyBytes: 4 << 20 },
    });
  });

  it("refuses flags that make no sense", async () => {
    for (const [flag, value] of [
      ["--port", "65536"],
      ["--max-queue", "0"],
      ["--max-body", "0.5"],
      ["--timeout", "0"],
      ["--drain", "x"],
      ["--ranks", "0"],
      ["--log", "loud"],
    ])
      await expect(run(folder, flag, value), flag).rejects.toThrow(/wanted|choices/);
    await expect(run(folder, "--host", "0.0.0.0")).rejects.toThrow(/there is no API key/);
  });
});
