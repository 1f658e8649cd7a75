/** What is wrong with a request is said in OpenAI's form, by name; whatever it is, the server lives. */
import { describe, expect, it } from "vitest";
import { requestCases } from "../campaign/requests.js";
import { END, serve } from "./served.js";

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

it("lives through requests that are almost right", async () => {
  const { failures, cases, statuses } = await requestCases({ seed: 1, cases: 3_000 });
  expect(failures).toEqual([]);
  expect(cases).toBe(3_000);
  // Both sides of the line are reached.
  expect(statuses.get(200)).toBeGreaterThan(300);
  expect(statuses.get(400)).toBeGreaterThan(300);
});
