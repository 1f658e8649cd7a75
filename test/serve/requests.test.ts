/** What is wrong with a request is said in OpenAI's form, by name; whatever it is, the server lives. */
import { once } from "node:events";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { requestCases } from "../campaign/requests.js";
import { END, type Served, serve } from "./served.js";

const COMPLETIONS = "/v1/completions";
const CHAT = "/v1/chat/completions";
const MESSAGES = [{ role: "user", content: "we" }];

type Wrong = readonly [body: object, param: string, message: RegExp, code?: string];
const SAMPLING: Wrong[] = [
  [{ wat: 1 }, "wat", /Unrecognized request argument supplied: wat/, "unknown_parameter"],
  [{ model: 5 }, "model", /wanted the model's name; found 5/, "invalid_type"],
  [{ n: 0 }, "n", /wanted a whole number from 1 to 128; found 0/],
  [{ n: 1.5 }, "n", /wanted a whole number/],
  [{ n: 129 }, "n", /found 129/],
  [{ n: "2" }, "n", /found "2"/, "invalid_type"],
  [{ max_tokens: 1e300 }, "max_tokens", /wanted a whole number/],
  [{ max_tokens: -1 }, "max_tokens", /found -1/],
  [{ temperature: -0.1 }, "temperature", /from 0 to 100; found -0.1/],
  [{ temperature: "hot" }, "temperature", /found "hot"/],
  [{ top_p: 0 }, "top_p", /above 0/],
  [{ top_p: 1.1 }, "top_p", /found 1.1/],
  [{ top_k: -2 }, "top_k", /found -2/],
  [{ min_p: 2 }, "min_p", /found 2/],
  [{ repetition_penalty: 0 }, "repetition_penalty", /found 0/],
  [{ presence_penalty: 2.1 }, "presence_penalty", /found 2.1/],
  [{ frequency_penalty: -3 }, "frequency_penalty", /found -3/],
  [{ seed: 2 ** 60 }, "seed", /wanted a whole number/],
  [{ stop: "" }, "stop", /wanted a text that is not empty/],
  [{ stop: ["a", ""] }, "stop[1]", /not empty/],
  [{ stop: [1] }, "stop[0]", /wanted a text; found 1/],
  [{ stop: new Array(17).fill("a") }, "stop", /list of texts|at most 16/],
  [{ stop_token_ids: [300] }, "stop_token_ids", /token 300; the model's tokens are 0 to/, "unknown_token"],
  [{ stop_token_ids: "1" }, "stop_token_ids", /list of token ids/],
  [{ logit_bias: { 300: 1 } }, "logit_bias", /token 300; the model's tokens are 0 to/, "unknown_token"],
  [{ logit_bias: { the: 1 } }, "logit_bias.the", /token ids as keys/],
  [{ logit_bias: { 5: 101 } }, "logit_bias.5", /from -100 to 100; found 101/],
  [{ logit_bias: [1] }, "logit_bias", /object of token ids/],
  [{ stream: 1 }, "stream", /true or false; found 1/],
  [{ stream_options: { include_usage: true } }, "stream_options", /only allowed when stream is true/],
  [
    { stream: true, stream_options: { wat: true } },
    "stream_options.wat",
    /Unrecognized request argument supplied: stream_options.wat/,
    "unknown_parameter",
  ],
];
const COMPLETION: Wrong[] = [
  [{ prompt: undefined }, "prompt", /^Missing required parameter: 'prompt'$/, "missing_required_parameter"],
  [{ prompt: null }, "prompt", /^Missing required parameter: 'prompt'$/, "missing_required_parameter"],
  [{ prompt: 5 }, "prompt", /wanted a text, a list of texts/, "invalid_type"],
  [{ prompt: [] }, "prompt", /empty/],
  [{ prompt: [[]] }, "prompt", /prompt 0 is empty/],
  [{ prompt: [1, 2.5] }, "prompt", /token ids: whole numbers/],
  [{ prompt: [-1] }, "prompt", /token ids: whole numbers/],
  [{ prompt: [1, "a"] }, "prompt", /wanted a text, a list of texts/],
  [{ prompt: ["a", 1] }, "prompt", /wanted a text, a list of texts/],
  [{ prompt: [300] }, "prompt", /token 300; the model's tokens are 0 to 295/, "unknown_token"],
  [{ prompt: { text: "a" } }, "prompt", /wanted a text, a list of texts/],
  [{ logprobs: 21 }, "logprobs", /from 0 to 20/],
  [{ logprobs: true }, "logprobs", /whole number/],
  [{ best_of: 2 }, "best_of", /not supported beyond n/],
  [{ suffix: "end" }, "suffix", /suffix is not supported/],
  [{ messages: MESSAGES }, "messages", /Unrecognized/, "unknown_parameter"],
];
const CHATS: Wrong[] = [
  [{ messages: undefined }, "messages", /^Missing required parameter/, "missing_required_parameter"],
  [{ messages: [] }, "messages", /at least one/],
  [{ messages: "we" }, "messages", /wanted a list of messages/],
  [{ messages: [5] }, "messages[0]", /wanted a message/],
  [{ messages: [{ role: "tool", content: "x" }] }, "messages[0].role", /tools are not supported/],
  [{ messages: [{ content: "a" }] }, "messages[0].role", /^Missing/, "missing_required_parameter"],
  [{ messages: [{ role: "user" }] }, "messages[0].content", /^Missing/, "missing_required_parameter"],
  [{ messages: [{ role: "user", content: null }] }, "messages[0].content", /^Missing required parameter/],
  [{ messages: [{ role: "user", content: 1 }] }, "messages[0].content", /list of parts/, "invalid_type"],
  [
    { messages: [{ role: "user", content: "a", tool_calls: [{}] }] },
    "messages[0].tool_calls",
    /not supported/,
  ],
  [
    { chat_template_kwargs: { a: [1] } },
    "chat_template_kwargs.a",
    /wanted a text, a number, true, false or null/,
  ],
  [
    { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
    "messages[0].content[0].type",
    /other kinds of content/,
  ],
  [
    { messages: [{ role: "user", content: "x", extra: 1 }] },
    "messages[0].extra",
    /Unrecognized/,
    "unknown_parameter",
  ],
  [{ max_tokens: 0 }, "max_tokens", /from 1/],
  [{ top_logprobs: 2 }, "top_logprobs", /wants logprobs to be true/],
  [{ logprobs: 3 }, "logprobs", /true or false/],
  [{ tools: [{ type: "function" }] }, "tools", /tools is not supported/],
  [{ response_format: { type: "json_object" } }, "response_format", /not supported/],
  [{ continue_final_message: true, add_generation_prompt: true }, "continue_final_message", /exclude/],
  [{ echo: true }, "echo", /Unrecognized/, "unknown_parameter"],
];

describe("refuses by name", () => {
  const cases = [
    ...[...SAMPLING, ...COMPLETION].map((wrong) => [COMPLETIONS, { prompt: "we" }, wrong] as const),
    ...[...SAMPLING, ...CHATS].map((wrong) => [CHAT, { messages: MESSAGES }, wrong] as const),
  ];
  it("every key that is wrong", async () => {
    const { server, engine } = await serve();
    for (const [url, base, [body, param, message, code]] of cases) {
      const response = await server.app.inject({ method: "POST", url, payload: { ...base, ...body } });
      const found = response.json<{ error: { message: string } }>();
      expect(found, JSON.stringify(body)).toMatchObject({ error: { param, type: "invalid_request_error" } });
      expect(found.error.message, JSON.stringify(body)).toMatch(message);
      if (code !== undefined) expect(found, JSON.stringify(body)).toMatchObject({ error: { code } });
      expect(response.statusCode).toBe(400);
    }
    expect(engine.requests).toEqual([]);
  });
});

describe("takes", () => {
  it("keys that change nothing, and null for what is not there", async () => {
    const { post } = await serve();
    const common = {
      user: "a",
      metadata: { a: "b" },
      store: true,
      service_tier: "auto",
      seed: null,
      stop: null,
      n: null,
      stream: true,
      stream_options: { include_usage: null },
    };
    for (const [path, body] of [
      [COMPLETIONS, { prompt: "we", best_of: 1, suffix: null, logit_bias: null, max_tokens: 1 }],
      [
        CHAT,
        {
          messages: [
            ...MESSAGES,
            { role: "assistant", content: "a", name: null, refusal: null, tool_calls: [] },
          ],
          chat_template_kwargs: { a: null },
          tools: [],
          tool_choice: "none",
          response_format: { type: "text" },
          max_tokens: 1,
        },
      ],
    ] as const)
      expect((await post(path, { ...common, ...body })).status, path).toBe(200);
  });

  it("what vLLM adds, and hands it on", async () => {
    const { post, engine } = await serve();
    const body = {
      prompt: "we",
      max_tokens: 3,
      temperature: 0.5,
      top_p: 0.9,
      top_k: -1,
      min_p: 0.1,
      repetition_penalty: 1.1,
      presence_penalty: 0.2,
      frequency_penalty: -0.3,
      logit_bias: { 5: -100, 7: 1 },
      stop_token_ids: [9, 9],
      logprobs: 3,
      seed: 4,
    };
    expect((await post(COMPLETIONS, body)).status).toBe(200);
    expect(engine.requests[0].sampling).toEqual({
      maxNewTokens: 3,
      temperature: 0.5,
      topP: 0.9,
      topK: 0,
      minP: 0.1,
      repetitionPenalty: 1.1,
      presencePenalty: 0.2,
      frequencyPenalty: -0.3,
      logitBias: [
        [5, -100],
        [7, 1],
      ],
      stopTokens: [END, 9],
      logprobs: 3,
      promptLogprobs: undefined,
      seed: 4,
    });
  });
});

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

it("lives through requests that are almost right", async () => {
  const { failures, cases, statuses } = await requestCases({ seed: 1, cases: 3_000 });
  expect(failures).toEqual([]);
  expect(cases).toBe(3_000);
  // Both sides of the line are reached.
  expect(statuses.get(200)).toBeGreaterThan(300);
  expect(statuses.get(400)).toBeGreaterThan(300);
});
