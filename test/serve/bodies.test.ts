/** Bodies that are no requests: none of JSON, too large, too deep, or of another type; and connections that carry them. */
import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { type Served, serve } from "./served.js";

const COMPLETIONS = "/v1/completions";

describe("bodies that are none", () => {
  const bodies: readonly (readonly [
    name: string,
    body: string | Uint8Array,
    status: number,
    code: string,
  ])[] = [
    ["cut JSON", '{"prompt": "we"', 400, "invalid_json"],
    ["empty", "", 400, "invalid_json"],
    ["a list", "[1]", 400, "invalid_type"],
    ["null", "null", 400, "invalid_type"],
    ["NaN", '{"prompt": "we", "n": NaN}', 400, "invalid_json"],
    ["infinite", '{"prompt": "we", "temperature": 1e999}', 400, "invalid_type"],
    ["a prototype", '{"prompt": "we", "__proto__": {"n": 3}}', 400, "invalid_json"],
    ["invalid UTF-8", Buffer.from('{"prompt": "\xff\xfe"}', "latin1"), 400, "invalid_utf8"],
    ["deep", `{"prompt": ${"[".repeat(100_000)}${"]".repeat(100_000)}}`, 400, "invalid_value"],
    ...["stop", "suffix", "metadata", "unknown"].map(
      (key) =>
        [
          `deep ${key}`,
          `{"prompt": "we", "${key}": ${"[".repeat(40_000)}${"]".repeat(40_000)}}`,
          400,
          "too_deep",
        ] as const,
    ),
    ["many values", `{"prompt": "we", "stop": [${"0,".repeat(100_000)}0]}`, 400, "too_many_values"],
    ["a long list of wrong ids", `{"prompt": [${"0.5,".repeat(400_000)}0]}`, 400, "invalid_value"],
    ["too large", JSON.stringify({ prompt: "x".repeat(5 << 20) }), 413, "request_too_large"],
  ];
  it("are refused", async () => {
    const { server } = await serve();
    for (const [name, payload, status, code] of bodies) {
      const headers = { "content-type": "application/json" };
      const response = await server.app.inject({
        method: "POST",
        url: COMPLETIONS,
        headers,
        payload: payload as Buffer,
      });
      expect([name, response.statusCode, response.json()], name).toMatchObject([
        name,
        status,
        { error: { code } },
      ]);
    }
  });

  it("are not sent back", async () => {
    const { server } = await serve();
    const long = "k".repeat(100_000);
    for (const body of [
      { [long]: 1 },
      { model: long },
      { logit_bias: { [long]: 1 } },
      { stream_options: { [long]: 1 } },
      { user: [long] },
    ]) {
      const payload = { prompt: "we", ...body };
      const response = await server.app.inject({ method: "POST", url: COMPLETIONS, payload });
      expect([response.statusCode < 500, response.body.length < 1_000]).toEqual([true, true]);
    }
  });

  it("say why they cannot be read", async () => {
    const { server } = await serve();
    const headers = { "content-type": "application/json" };
    const why = async (payload: string) =>
      (await server.app.inject({ method: "POST", url: COMPLETIONS, headers, payload })).json<{
        error: { message: string };
      }>().error.message;
    expect(await why('{"prompt": we}')).toMatch(/^The body is not JSON that can be read: .*Unexpected token/);
    expect(await why('{"__proto__": {}}')).toMatch(/: a key is __proto__, or constructor/);
  });

  it("of other types are refused, as are unknown URLs and methods", async () => {
    const { server, get } = await serve();
    const form = await server.app.inject({
      method: "POST",
      url: COMPLETIONS,
      headers: { "content-type": "application/x-www-form-urlencoded" },
      payload: "prompt=we",
    });
    expect([form.statusCode, form.json()]).toMatchObject([
      415,
      { error: { code: "unsupported_media_type" } },
    ]);
    const unknown = await get("/v1/embeddings");
    expect([unknown.status, await unknown.json()]).toMatchObject([404, { error: { code: "unknown_url" } }]);
    const method = await get(COMPLETIONS);
    expect([method.status, method.headers.get("allow")]).toEqual([405, "POST"]);
    for (const path of ["/v1/models/tiny", "/v1/models/other/model", "/v1/models/", "/health/"]) {
      const other = await server.app.inject({ method: "DELETE", url: path });
      expect([path, other.statusCode, other.headers.allow]).toEqual([path, 405, "GET"]);
    }
    const url = await get("/v1/models/%");
    expect([url.status, await url.json()]).toMatchObject([400, { error: { code: "invalid_url" } }]);
  });
});

/** Sends pieces on one connection, each after the server has answered another request; what came back until it closed. */
async function conversation({ url, get }: Served, pieces: readonly string[]): Promise<string> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let answer = "";
  socket.on("data", (data) => (answer += data.toString()));
  const closed = once(socket, "close");
  for (const piece of pieces) {
    await new Promise((resolve) => socket.write(piece, resolve));
    await get("/health");
  }
  await closed;
  return answer;
}

describe("a body that is refused unread", () => {
  const MANY = "x".repeat(3 << 20);
  const head = (length: number, type: string, connection: string): string =>
    `POST ${COMPLETIONS} HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\nConnection: ${connection}\r\n\r\n`;

  it.each([
    ["application/json", 413],
    ["text/plain", 415],
  ])("of type %s is answered once a client that closes has sent it", async (type, status) => {
    const served = await serve();
    const answer = await conversation(served, [head(2 * MANY.length, type, "close"), MANY, MANY]);
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} .*"error"`, "s"));
  });

  it("leaves the connection to the next request", async () => {
    const served = await serve();
    const right = JSON.stringify({ prompt: "we", max_tokens: 1 });
    const answer = await conversation(served, [
      head(2 * MANY.length, "application/json", "keep-alive"),
      MANY + MANY,
      head(5, "application/json", "keep-alive") + "{wat}",
      head(right.length, "application/json", "close") + right,
    ]);
    expect(answer.match(/HTTP\/1.1 \d+/g)).toEqual(["HTTP/1.1 413", "HTTP/1.1 400", "HTTP/1.1 200"]);
  });
});
