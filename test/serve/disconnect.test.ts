/** Clients that go, in every phase and every way, and servers that go. */
import { type Socket, connect } from "node:net";
import { describe, expect, it } from "vitest";
import { type Served, serve, tokenizer } from "./served.js";

/** A client that speaks HTTP by hand. */
async function request(
  { url }: Served,
  body: object,
): Promise<{ readonly socket: Socket; readonly received: () => string }> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let received = "";
  socket.on("data", (data) => (received += data.toString()));
  socket.on("error", () => undefined);
  const text = JSON.stringify(body);
  await new Promise<void>((resolve) => socket.once("connect", resolve));
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n${text}`,
  );
  return { socket, received: () => received };
}

const LEAVE = {
  "closes its connection": (socket: Socket) => socket.destroy(),
  "resets its connection": (socket: Socket) => socket.resetAndDestroy(),
  "closes its half of the connection": (socket: Socket) => socket.end(),
} as const;
/** How many steps have been made when it goes: the engine has one slot, and a prompt takes two steps. */
const PHASES = { queued: 0, prefill: 1, decode: 4 } as const;

const cases = Object.keys(LEAVE).flatMap((way) =>
  Object.keys(PHASES).flatMap((phase) =>
    [true, false].map((stream) => [way, phase, stream] as [keyof typeof LEAVE, keyof typeof PHASES, boolean]),
  ),
);

it.each(cases)(
  "a client that %s while %s (stream %s) has its sequences cancelled",
  async (way, phase, stream) => {
    const served = await serve({ manual: true, slots: 2, chunk: 16 });
    const { engine } = served;
    const prompt = new Array<number>(20).fill(5);
    const client = await request(served, { prompt, n: 2, stream, max_tokens: 100, ignore_eos: true });
    await engine.until(() => engine.requests.length === 2);
    for (let i = 0; i < PHASES[phase]; i++) engine.step();
    LEAVE[way](client.socket);
    await engine.until(() => engine.cancelled.length === 2);
    expect(engine.cancelled[0]).toEqual({ sequence: 0, phase });
    expect(engine.figures()).toMatchObject({ running: 0, waiting: 0 });
  },
);

it("one that goes leaves the others alone", async () => {
  const served = await serve({ manual: true, script: [65] });
  const { engine, post } = served;
  const client = await request(served, { prompt: [5], stream: true, max_tokens: 100 });
  await engine.until(() => engine.requests.length === 1);
  const other = post("/v1/completions", { prompt: [5], max_tokens: 3, ignore_eos: true });
  await engine.until(() => engine.requests.length === 2);
  engine.step();
  client.socket.destroy();
  await engine.until(() => engine.cancelled.length === 1);
  for (let i = 0; i < 4; i++) engine.step();
  expect((await other).status).toBe(200);
  expect(engine.cancelled).toHaveLength(1);
});

it.each(Object.keys(LEAVE) as (keyof typeof LEAVE)[])(
  "one that %s while its requests wait behind each other has them all cancelled",
  async (way) => {
    const { server, url, engine, get } = await serve({ manual: true, script: [65] });
    const text = JSON.stringify({ prompt: [5], max_tokens: 100, ignore_eos: true });
    const head = `POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: ${text.length}\r\n\r\n`;
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.write((head + text).repeat(15));
    await engine.until(() => engine.requests.length === 15);
    LEAVE[way](socket);
    await engine.until(() => engine.cancelled.length === 15);
    expect(await (await get("/metrics")).text()).toContain(
      'http_requests_total{handler="/v1/completions",status="499"} 15',
    );
    // Nothing is left that it would wait for.
    await server.drain(2 ** 30);
  },
);

it("one that does not read is given up", async () => {
  const served = await serve({ contextLength: 1 << 20, script: [65] }, { limits: { maxUnreadBytes: 1_024 } });
  const { engine } = served;
  const client = await request(served, { prompt: [5], stream: true, max_tokens: 1 << 19, ignore_eos: true });
  client.socket.pause();
  await engine.until(() => engine.cancelled.length === 1);
  client.socket.destroy();
  expect(engine.cancelled).toEqual([{ sequence: 0, phase: "decode" }]);
});

describe("a request's time", () => {
  const limits = { requestTimeoutMs: 30 };

  it("is over: a status before the first token", async () => {
    const { post, engine } = await serve({ manual: true, script: [65] }, { limits });
    for (const stream of [true, false]) {
      const response = await post("/v1/completions", { prompt: [5], stream });
      expect(response.status).toBe(504);
      expect(await response.json()).toMatchObject({
        error: { code: "request_timeout", type: "server_error" },
      });
    }
    expect(engine.cancelled.map(({ phase }) => phase)).toEqual(["queued", "queued"]);
  });

  it("is over: an event behind it, and no end as of an answer that is whole", async () => {
    const { post, engine } = await serve(
      { manual: true, script: [65] },
      { limits: { requestTimeoutMs: 1_000 } },
    );
    const asked = post("/v1/completions", { prompt: [5], stream: true, ignore_eos: true });
    await engine.until(() => engine.requests.length === 1);
    engine.step();
    engine.step();
    const response = await asked;
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toContain('"code":"request_timeout"');
    expect(text).not.toContain("[DONE]");
  });
});

describe("an engine that fails", () => {
  it("is a status before the first token, and every request's from then on", async () => {
    let lost = 0;
    const { post, get, engine } = await serve({ manual: true, script: [65] }, { onEngineLost: () => lost++ });
    const asked = [true, false].map((stream) => post("/v1/completions", { prompt: [5], stream }));
    await engine.until(() => engine.requests.length === 2);
    engine.fail(new Error("rank 1 is gone"));
    for (const response of await Promise.all(asked)) {
      expect(response.status).toBe(503);
      expect(await response.json()).toMatchObject({ error: { code: "engine_lost" } });
    }
    expect(lost).toBe(1);
    expect((await post("/v1/completions", { prompt: [5] })).status).toBe(503);
    expect((await get("/health")).status).toBe(503);
    expect((await get("/ready")).status).toBe(503);
  });

  it("is an event behind it", async () => {
    const { post, engine } = await serve({ manual: true, script: [65] });
    const asked = post("/v1/completions", { prompt: [5], stream: true, ignore_eos: true });
    await engine.until(() => engine.requests.length === 1);
    engine.step();
    engine.step();
    const response = await asked;
    engine.fail(new Error("rank 1 is gone"));
    const text = await response.text();
    expect(text).toContain('"code":"engine_lost"');
    expect(text).not.toContain("[DONE]");
  });

  it("that will not take the second of two sequences keeps none", async () => {
    const { post, engine } = await serve({ manual: true, script: [65] });
    const submit = engine.submit.bind(engine);
    engine.submit = (...args) => {
      if (engine.requests.length === 1) throw new Error("no more");
      return submit(...args);
    };
    expect((await post("/v1/completions", { prompt: [5], n: 2 })).status).toBe(503);
    expect(engine.cancelled).toHaveLength(1);
  });
});

describe("drain", () => {
  it("lets answers end, takes no new requests meanwhile, and closes", async () => {
    const { server, post, get, engine, url } = await serve({ manual: true, script: [65] });
    const body = { prompt: tokenizer.encode("we"), max_tokens: 2, ignore_eos: true };
    const asked = [true, false].map((stream) => post("/v1/completions", { ...body, stream }));
    await engine.until(() => engine.requests.length === 2);
    const drained = server.drain(60_000);
    const refused = await post("/v1/completions", body);
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).toBe("5");
    expect(await refused.json()).toMatchObject({ error: { code: "draining" } });
    expect((await get("/ready")).status).toBe(503);
    expect((await get("/health")).status).toBe(200);
    for (let i = 0; i < 5; i++) engine.step();
    const [streamed, whole] = await Promise.all(asked);
    expect(await streamed.text()).toContain("[DONE]");
    expect(await whole.json()).toMatchObject({ usage: { completion_tokens: 2 } });
    await drained;
    expect(engine.cancelled).toEqual([]);
    await expect(fetch(`${url}/health`)).rejects.toThrow();
  });

  it("cancels what is left at the deadline", async () => {
    const { server, post, engine } = await serve({ manual: true, script: [65] });
    const body = { prompt: [5], max_tokens: 9, ignore_eos: true };
    const asked = post("/v1/completions", { ...body, stream: true });
    await engine.until(() => engine.requests.length === 1);
    const queued = post("/v1/completions", body);
    await engine.until(() => engine.requests.length === 2);
    engine.step();
    const response = await asked;
    await server.drain(20);
    expect(await response.text()).toContain('"code":"draining"');
    expect((await queued).status).toBe(503);
    expect(engine.cancelled).toHaveLength(2);
  });
});
