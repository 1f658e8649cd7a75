/** The server itself: who may ask, how much, what operators see, and connections that are no requests. */
import { Writable } from "node:stream";
import { connect } from "node:net";
import { pino } from "pino";
import { describe, expect, it } from "vitest";
import { EnvironmentError, InputError } from "../../src/core/errors.js";
import { OPERATIONS } from "../../src/serve/openapi.js";
import { createServer } from "../../src/serve/server.js";
import { FakeEngine } from "./fake-engine.js";
import { model, serve, tokenizer } from "./served.js";

const COMPLETIONS = "/v1/completions";
const BODY = { prompt: "we", max_tokens: 1 };
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

describe("keys", () => {
  const keys = ["first-key-1234", "second-key-567"];

  it("are asked for everywhere but where probes look", async () => {
    const { post, get, server } = await serve({}, { keys });
    for (const key of keys) expect((await post(COMPLETIONS, BODY, bearer(key))).status).toBe(200);
    const none = await post(COMPLETIONS, BODY);
    expect([none.status, none.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
    expect(await none.json()).toMatchObject({
      error: { code: "missing_api_key", type: "invalid_request_error" },
    });
    for (const wrong of ["first-key-123", "first-key-12345", "x", "first-key-1234 second-key-567"]) {
      const response = await post(COMPLETIONS, BODY, bearer(wrong));
      expect(await response.json(), wrong).toMatchObject({ error: { code: "invalid_api_key" } });
    }
    expect((await post(COMPLETIONS, BODY, { authorization: `Basic ${keys[0]}` })).status).toBe(401);
    const open: string[] = [];
    for (const { path, method } of OPERATIONS) {
      const url = path.replace("{model}", "tiny");
      const { statusCode } = await server.app.inject({
        method,
        url,
        payload: method === "post" ? "{}" : undefined,
      });
      if (statusCode !== 401) open.push(path);
    }
    expect(open).toEqual(["/health", "/ready"]);
    expect((await get("/unknown")).status).toBe(401);
  });

  it("must be secrets that a header can carry", () => {
    const engine = new FakeEngine({ vocabSize: tokenizer.vocabSize });
    for (const key of ["", "short", "with space 123", "schlüssel-12345", "line\nline-1234"])
      expect(() => createServer({ engine, model, keys: [key] }), key).toThrow(InputError);
  });

  it("are wanted before others can reach the server", async () => {
    const { server } = await serve();
    for (const host of ["0.0.0.0", "::", "192.0.2.1", "example.org"])
      await expect(server.listen({ host, port: 0 })).rejects.toThrow(/there is no API key/);
  });

  it("let the server listen elsewhere", async () => {
    const engine = new FakeEngine({ vocabSize: tokenizer.vocabSize });
    const server = createServer({ engine, model, keys });
    try {
      await expect(server.listen({ host: "192.0.2.1", port: 0 })).rejects.toThrow(/no such address/);
    } finally {
      await server.close();
    }
  });
});

it("a port that is in use is said in one line", async () => {
  const { url } = await serve();
  const other = createServer({ engine: new FakeEngine({ vocabSize: 300 }), model });
  const port = Number(new URL(url).port);
  const failure = await other.listen({ port }).catch((error: unknown) => error);
  await other.close();
  expect(failure).toBeInstanceOf(EnvironmentError);
  expect((failure as Error).message).toMatch(/in use/);
});

describe("limits", () => {
  it("of the queue are 429, with when to come again", async () => {
    const { post, engine } = await serve({ manual: true, slots: 1 }, { limits: { maxQueue: 2 } });
    const first = post(COMPLETIONS, { ...BODY, n: 2 });
    await engine.until(() => engine.requests.length === 2);
    engine.step();
    // One ran and has ended, one waits.
    const refused = await post(COMPLETIONS, { ...BODY, n: 2 });
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
    expect(await refused.json()).toMatchObject({ error: { code: "queue_full", type: "rate_limit_error" } });
    const second = post(COMPLETIONS, BODY);
    await engine.until(() => engine.requests.length === 3);
    for (let i = 0; i < 3; i++) engine.step();
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
  });

  it("of one request are 400: no waiting would help", async () => {
    const { post } = await serve({}, { limits: { maxSequences: 3 } });
    const response = await post(COMPLETIONS, { ...BODY, prompt: ["a", "b"], n: 2 });
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param: "n" } }]);
  });

  it("make sense", () => {
    const engine = new FakeEngine({ vocabSize: 300 });
    expect(() => createServer({ engine, model, limits: { maxQueue: 0 } })).toThrow(/maxQueue is 0; wanted/);
    expect(() => createServer({ engine, model, limits: { requestTimeoutMs: 2 ** 31 } })).toThrow(InputError);
  });
});

describe("connections", () => {
  const limits = { headersTimeoutMs: 60, bodyTimeoutMs: 60 };
  const HEAD = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";

  it.each([
    ["headers that never end", HEAD, 408, "request_too_slow"],
    ["a body that never ends", `${HEAD}Content-Length: 100\r\n\r\n{"prompt"`, 408, "request_too_slow"],
    ["headers that are too long", `${HEAD}X: ${"x".repeat(40_000)}\r\n\r\n`, 431, "headers_too_large"],
    ["what is no HTTP", "hello\r\n\r\n", 400, "bad_http"],
    ["two lengths", `${HEAD}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400, "bad_http"],
  ])("with %s are closed with a status", async (_, text, status, code) => {
    const { url, get } = await serve({}, { limits });
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    let received = "";
    socket.on("data", (data) => (received += data.toString()));
    socket.write(text);
    await new Promise((resolve) => socket.once("close", resolve));
    expect(received.split("\r\n")[0]).toContain(` ${status} `);
    expect(received).toContain(`"code":"${code}"`);
    expect((await get("/health")).status).toBe(200);
  });
});

describe("status", () => {
  it("is there for probes", async () => {
    const { get } = await serve();
    expect([(await get("/health")).status, (await get("/ready")).status]).toEqual([200, 200]);
  });

  it("has vLLM's figures for Prometheus", async () => {
    const { post, get } = await serve({ script: tokenizer.encode("abc") });
    await post(COMPLETIONS, { prompt: "we", max_tokens: 3 });
    await post(COMPLETIONS, { prompt: "we", max_tokens: 3, stop: "b" });
    await post(COMPLETIONS, { prompt: "we", wat: 1 });
    const response = await get("/metrics");
    expect(response.headers.get("content-type")).toMatch(/^text\/plain/);
    const lines = (await response.text()).split("\n");
    const labels = '{model_name="tiny"}';
    for (const line of [
      `vllm:num_requests_running${labels} 0`,
      `vllm:num_requests_waiting${labels} 0`,
      `vllm:kv_cache_usage_perc${labels} 0`,
      `vllm:prompt_tokens_total${labels} 4`,
      `vllm:generation_tokens_total${labels} 5`,
      `vllm:prefix_cache_queries_total${labels} 7`,
      `vllm:prefix_cache_hits_total${labels} 5`,
      `vllm:num_preemptions_total${labels} 3`,
      `vllm:time_to_first_token_seconds_count${labels} 2`,
      `vllm:inter_token_latency_seconds_count${labels} 3`,
      `vllm:time_per_output_token_seconds_count${labels} 3`,
      `vllm:e2e_request_latency_seconds_count${labels} 2`,
      'vllm:request_success_total{model_name="tiny",finished_reason="stop"} 1',
      'vllm:request_success_total{model_name="tiny",finished_reason="length"} 1',
      'vllm:request_success_total{model_name="tiny",finished_reason="abort"} 0',
      'http_requests_total{handler="/v1/completions",status="400"} 1',
    ])
      expect(lines).toContain(line);
    expect(lines).toContain("# TYPE vllm:prompt_tokens_total counter");
    // Times are not nothing, and in order.
    const [first, whole] = ["time_to_first_token", "e2e_request_latency"].map((name) =>
      Number(lines.find((line) => line.startsWith(`vllm:${name}_seconds_sum`))?.split(" ")[1]),
    );
    expect(first).toBeGreaterThan(0);
    expect(whole).toBeGreaterThan(first);
  });

  it("shows a timeline where there is one", async () => {
    const shown: { page?: string } = {};
    const { get } = await serve({}, { timeline: () => shown.page });
    expect((await get("/debug/timeline")).status).toBe(404);
    shown.page = "<!doctype html>";
    const response = await get("/debug/timeline");
    expect(await response.text()).toBe(shown.page);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
  });

  it("has an id for each request, the client's own where it is harmless", async () => {
    const { get } = await serve();
    expect((await get("/health")).headers.get("x-request-id")).toMatch(/^req-/);
    const own = await get("/health", { "x-request-id": "mine-1" });
    expect(own.headers.get("x-request-id")).toBe("mine-1");
    const odd = await get("/health", { "x-request-id": "<script>" });
    expect(odd.headers.get("x-request-id")).toMatch(/^req-/);
  });

  it("logs a line per request, and nothing of what was said in it", async () => {
    const lines: string[] = [];
    const log = pino(
      new Writable({
        write(chunk: Buffer, _, done) {
          lines.push(chunk.toString());
          done();
        },
      }),
    );
    const keys = ["a-secret-key-123"];
    const { post } = await serve({ script: tokenizer.encode("xyzzy") }, { log, keys });
    await post(COMPLETIONS, { prompt: "plugh", max_tokens: 5 }, bearer(keys[0]));
    await post(COMPLETIONS, { prompt: "plugh", max_tokens: 5 });
    const entries = () =>
      lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter(({ route }) => route);
    while (entries().length < 2) await new Promise(setImmediate);
    const promptTokens = tokenizer.encode("plugh").length;
    expect(entries()).toMatchObject([
      { route: COMPLETIONS, status: 200, promptTokens, newTokens: 5, method: "POST" },
      { route: COMPLETIONS, status: 401 },
    ]);
    expect(lines.join("")).not.toMatch(/plugh|xyzzy|secret/);
  });
});

it("a bug of ours is a 500 that says nothing, ends the sequences, and is in the log", async () => {
  const lines: string[] = [];
  const log = pino({ level: "error" }, { write: (line: string) => void lines.push(line) });
  const vocabulary = {
    ...model.vocabulary,
    nameOf: () => {
      throw new TypeError("a bug");
    },
  };
  const { post, engine } = await serve({ script: [65] }, { model: { ...model, vocabulary }, log });
  const body = { prompt: "we", max_tokens: 50, logprobs: 0 };
  for (const stream of [true, false]) {
    const response = await post(COMPLETIONS, { ...body, stream });
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(JSON.parse(text)).toMatchObject({ error: { code: "internal_error", type: "server_error" } });
    expect(text).not.toContain("a bug");
  }
  expect(engine.figures()).toMatchObject({ running: 0, waiting: 0 });
  expect(engine.cancelled).toHaveLength(1);
  expect(lines).toHaveLength(2);
  for (const line of lines) expect(JSON.parse(line)).toMatchObject({ err: { message: "a bug" } });
  expect((await post(COMPLETIONS, BODY)).status).toBe(200);
});
