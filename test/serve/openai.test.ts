/** OpenAI's own client. */
import OpenAI, { APIUserAbortError, BadRequestError, NotFoundError } from "openai";
import { describe, expect, it } from "vitest";
import { serve, tokenizer } from "./served.js";

async function client(...args: Parameters<typeof serve>) {
  const served = await serve(...args);
  const openai = new OpenAI({ baseURL: `${served.url}/v1`, apiKey: "not asked for", maxRetries: 0 });
  return { ...served, openai };
}
const MESSAGES = [
  { role: "system", content: "Be brief." },
  { role: "user", content: [{ type: "text", text: "How is the union?" }] },
] satisfies OpenAI.ChatCompletionMessageParam[];

describe("OpenAI's client", () => {
  it("lists and finds models", async () => {
    const { openai } = await client();
    const { data } = await openai.models.list();
    expect(data.map(({ id, object }) => ({ id, object }))).toEqual([{ id: "tiny", object: "model" }]);
    expect((await openai.models.retrieve("tiny")).id).toBe("tiny");
    await expect(openai.models.retrieve("other/model")).rejects.toThrow(NotFoundError);
  });

  it("completes", async () => {
    const { openai, engine } = await client();
    const answer = await openai.completions.create({
      model: "tiny",
      prompt: "the state",
      max_tokens: 5,
      temperature: 0,
      user: "somebody",
    });
    expect(answer.object).toBe("text_completion");
    expect(answer.id).toMatch(/^cmpl-/);
    expect(answer.choices).toHaveLength(1);
    expect(answer.choices[0].finish_reason).toBe("length");
    expect(answer.choices[0].logprobs).toBeNull();
    const prompt_tokens = tokenizer.encode("the state").length;
    expect(answer.usage).toEqual({ prompt_tokens, completion_tokens: 5, total_tokens: prompt_tokens + 5 });
    expect(engine.requests[0].prompt).toEqual(tokenizer.encode("the state"));
    expect(engine.requests[0].sampling).toMatchObject({ maxNewTokens: 5, temperature: 0, topK: 0, topP: 1 });
  });

  it("streams the same completion", async () => {
    const { openai } = await client();
    const body = { model: "tiny", prompt: "the state", max_tokens: 12, seed: 3 };
    const whole = await openai.completions.create(body);
    let text = "";
    const reasons: string[] = [];
    for await (const chunk of await openai.completions.create({ ...body, stream: true })) {
      text += chunk.choices[0].text;
      if (chunk.choices[0].finish_reason) reasons.push(chunk.choices[0].finish_reason);
      expect(chunk).not.toHaveProperty("usage");
    }
    expect(text).toBe(whole.choices[0].text);
    expect(reasons).toEqual(["length"]);
  });

  it("chats", async () => {
    const { openai } = await client();
    const answer = await openai.chat.completions.create({
      model: "tiny",
      messages: MESSAGES,
      max_completion_tokens: 6,
      logprobs: true,
      top_logprobs: 2,
      seed: 1,
    });
    expect(answer.object).toBe("chat.completion");
    const [{ message, logprobs, finish_reason, index }] = answer.choices;
    expect({ role: message.role, finish_reason, index }).toEqual({
      role: "assistant",
      finish_reason: "length",
      index: 0,
    });
    expect(logprobs?.content).toHaveLength(6);
    for (const { top_logprobs, logprob, bytes } of logprobs?.content ?? []) {
      expect(top_logprobs).toHaveLength(2);
      expect(logprob).toBeLessThan(0);
      expect(bytes?.length).toBeGreaterThan(0);
    }
    const bytes = logprobs?.content?.flatMap((token) => token.bytes ?? []) ?? [];
    expect(Buffer.from(bytes).toString()).toBe(message.content);
    expect(answer.usage?.completion_tokens).toBe(6);
  });

  it("streams the same chat, with usage when asked", async () => {
    const { openai } = await client();
    const body = { model: "tiny", messages: MESSAGES, max_tokens: 8, seed: 5, logprobs: true };
    const whole = await openai.chat.completions.create(body);
    const stream = await openai.chat.completions.create({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    const roles: string[] = [];
    const tokens: string[] = [];
    const usages: (OpenAI.CompletionUsage | null | undefined)[] = [];
    for await (const { choices, usage } of stream) {
      usages.push(usage);
      for (const { delta, logprobs } of choices) {
        text += delta.content ?? "";
        if (delta.role) roles.push(delta.role);
        tokens.push(...(logprobs?.content ?? []).map(({ token }) => token));
      }
    }
    expect(text).toBe(whole.choices[0].message.content);
    expect(roles).toEqual(["assistant"]);
    expect(tokens).toEqual(whole.choices[0].logprobs?.content?.map(({ token }) => token));
    expect(usages.pop()).toEqual(whole.usage);
    expect(new Set(usages)).toEqual(new Set([null]));
  });

  it("has its stream helper assemble a chat", async () => {
    const { openai } = await client();
    const stream = openai.chat.completions.stream({
      model: "tiny",
      messages: MESSAGES,
      max_tokens: 4,
      n: 2,
      seed: 2,
      logprobs: true,
    });
    const { choices } = await stream.finalChatCompletion();
    expect(choices.map(({ finish_reason }) => finish_reason)).toEqual(["length", "length"]);
    // It counts those of the first chunk twice.
    for (const { logprobs } of choices) expect(logprobs?.content).toHaveLength(4);
  });

  it("goes on with a conversation by its own answers", async () => {
    const { openai, engine } = await client({ script: [65] });
    const messages: OpenAI.ChatCompletionMessageParam[] = [...MESSAGES];
    const say = { model: "tiny", max_tokens: 3 };
    messages.push((await openai.chat.completions.create({ ...say, messages })).choices[0].message);
    messages.push(await openai.chat.completions.stream({ ...say, messages }).finalMessage());
    messages.push({ role: "assistant", content: "B", refusal: null, tool_calls: [], audio: null });
    await openai.chat.completions.create({ ...say, messages });
    expect(tokenizer.decode(engine.requests.at(-1)!.prompt)).toMatch(
      /(### assistant\nAAA\n\n){2}### assistant\nB\n\n### assistant\n$/,
    );
  });

  it("gets errors as its own classes", async () => {
    const { openai } = await client();
    const create = (body: object) => openai.completions.create({ model: "tiny", prompt: "the", ...body });
    await expect(create({ model: "other" })).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
      param: "model",
    });
    const error = await create({ prompt: "the ".repeat(2_000) }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(BadRequestError);
    expect(error).toMatchObject({ code: "context_length_exceeded", type: "invalid_request_error" });
  });

  it("aborts a stream, which ends the sequence", async () => {
    const { openai, engine } = await client({ manual: true, script: [65] });
    const abort = new AbortController();
    const asked = openai.completions.create(
      { model: "tiny", prompt: "the", max_tokens: 100, stream: true },
      { signal: abort.signal },
    );
    await engine.until(() => engine.requests.length === 1);
    engine.step();
    engine.step();
    const stream = await asked;
    const iterator = stream[Symbol.asyncIterator]();
    await iterator.next();
    abort.abort();
    await engine.until(() => engine.cancelled.length === 1);
    expect(engine.cancelled).toEqual([{ sequence: 0, phase: "decode" }]);
  });

  it("aborts an answer in one piece, which ends the sequence", async () => {
    const { openai, engine } = await client({ manual: true, script: [65] });
    const abort = new AbortController();
    const asked = openai.completions.create(
      { model: "tiny", prompt: "the", max_tokens: 100 },
      { signal: abort.signal },
    );
    await engine.until(() => engine.requests.length === 1);
    engine.step();
    abort.abort();
    await expect(asked).rejects.toThrow(APIUserAbortError);
    await engine.until(() => engine.cancelled.length === 1);
    expect(engine.cancelled).toEqual([{ sequence: 0, phase: "decode" }]);
  });
});
