/** Tokens without a text: of texts and conversations, and of models that know no others. */
import { describe, expect, it } from "vitest";
import { vocabularyOf } from "../../src/serve/vocabulary.js";
import { chunksOf, model, serve, tokenizer } from "./served.js";

const COMPLETIONS = "/v1/completions";

describe("tokens", () => {
  it("of texts and conversations, and back", async () => {
    const { post } = await serve({ contextLength: 99 });
    const tokens = tokenizer.encode("the é");
    const made = await post("/tokenize", { prompt: "the é", return_token_strs: true });
    expect(await made.json()).toMatchObject({ count: tokens.length, max_model_len: 99, tokens });
    const back = await post("/detokenize", { tokens });
    expect(await back.json()).toEqual({ prompt: "the é" });
    const chat = await post("/tokenize", { messages: [{ role: "user", content: "we" }] });
    expect(await chat.json()).toMatchObject({ tokens: tokenizer.encode("### user\nwe\n\n### assistant\n") });
    const long = await post("/tokenize", { prompt: "we the people ".repeat(5_000) });
    expect(((await long.json()) as { count: number }).count).toBeGreaterThan(10_000);
    const unknown = await post("/detokenize", { tokens: [300] });
    expect(await unknown.json()).toMatchObject({ error: { code: "unknown_token", param: "tokens" } });
    expect((await post("/tokenize", { prompt: "a", model: "other" })).status).toBe(404);
  });

  it("are all there is where a model has no tokenizer", async () => {
    const bare = { ...model, tokenizer: undefined, vocabulary: vocabularyOf(undefined), endTokens: [] };
    const { post } = await serve({ script: [7] }, { model: bare });
    const response = await post(COMPLETIONS, { prompt: [1, 2], max_tokens: 2, logprobs: 0, echo: true });
    expect(await response.json()).toMatchObject({
      choices: [{ text: "", logprobs: { tokens: ["token_id:1", "token_id:2", "token_id:7", "token_id:7"] } }],
    });
    const streamed = await post(COMPLETIONS, { prompt: [1], max_tokens: 3, logprobs: 0, stream: true });
    const chunks = await chunksOf(streamed);
    expect(chunks.map(({ choices }) => choices[0].logprobs?.tokens ?? [])).toEqual([
      ["token_id:7"],
      ["token_id:7"],
      ["token_id:7"],
      [],
    ]);
    expect((await post(COMPLETIONS, { prompt: [1], max_tokens: 1, stop: [] })).status).toBe(200);
    for (const [path, body] of [
      [COMPLETIONS, { prompt: "we" }],
      [COMPLETIONS, { prompt: "" }],
      [COMPLETIONS, { prompt: [1], stop: "a" }],
      ["/v1/chat/completions", { messages: [{ role: "user", content: "we" }] }],
      ["/tokenize", { prompt: "we" }],
      ["/detokenize", { tokens: [1] }],
    ] as const) {
      const refused = await post(path, body);
      expect([refused.status, await refused.json()], path).toMatchObject([
        400,
        { error: { code: "no_tokenizer" } },
      ]);
    }
  });
});
