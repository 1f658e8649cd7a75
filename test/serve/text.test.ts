/** What is written: characters, stops, choices, usage, echo, seeds. */
import { describe, expect, it } from "vitest";
import { END, type Chunk, chunksOf, eventsOf, serve, textOf, tokenizer } from "./served.js";

const PATH = "/v1/completions";
const whole = async (response: Response): Promise<Chunk> => (await response.json()) as Chunk;
const ids = (text: string): number[] => tokenizer.encode(text);

describe("characters", () => {
  // Five bytes-as-tokens: "é" is two, "€" three.
  const script = [...ids("é€x"), END];

  it("come whole, however many tokens they take", async () => {
    expect(script.length).toBeGreaterThan(5);
    const { post } = await serve({ script });
    const chunks = await chunksOf(await post(PATH, { prompt: "a", stream: true }));
    const texts = chunks.flatMap(({ choices }) => choices.map(({ text }) => text)).filter((t) => t !== "");
    expect(texts).toEqual(["é", "€", "x"]);
    const { choices } = await whole(await post(PATH, { prompt: "a" }));
    expect(choices[0]).toMatchObject({ text: "é€x", finish_reason: "stop", stop_reason: null });
  });

  it("are flushed where max_tokens cuts one, as what cannot be read", async () => {
    const { post } = await serve({ script });
    for (const stream of [false, true]) {
      const response = await post(PATH, { prompt: "a", max_tokens: 4, stream });
      const text = stream ? textOf(await chunksOf(response)) : (await whole(response)).choices[0].text;
      expect(text).toBe("é\ufffd");
    }
  });

  it("end before a stop string that follows them", async () => {
    const { post } = await serve({ script });
    for (const stream of [false, true]) {
      const response = await post(PATH, { prompt: "a", stop: ["€"], stream });
      const text = stream ? textOf(await chunksOf(response)) : (await whole(response)).choices[0].text;
      expect(text).toBe("é");
    }
  });

  it("are named by their bytes where a token has a part of one", async () => {
    const { post } = await serve({ script });
    const { choices } = await whole(await post(PATH, { prompt: "a", logprobs: 0 }));
    expect(choices[0].logprobs?.tokens).toEqual([
      "bytes:\\xc3",
      "bytes:\\xa9",
      "bytes:\\xe2",
      "bytes:\\x82",
      "bytes:\\xac",
      "x",
      "<|endoftext|>",
    ]);
    expect(choices[0].logprobs?.text_offset).toEqual([0, 0, 1, 1, 1, 2, 3]);
  });
});

describe("stop strings", () => {
  const script = [..."abcabd!"].flatMap(ids);

  it("end the text across tokens, and are no part of it", async () => {
    const { post, engine } = await serve({ script });
    const answer = await whole(await post(PATH, { prompt: "x", stop: "cab", max_tokens: 7, logprobs: 0 }));
    expect(answer.choices[0]).toMatchObject({ text: "ab", finish_reason: "stop", stop_reason: "cab" });
    // All tokens are counted and listed, those of the stop string, too.
    expect(answer.usage?.completion_tokens).toBe(5);
    expect(answer.choices[0].logprobs?.tokens).toEqual([..."abcab"]);
    expect(engine.cancelled).toEqual([]);
  });

  it("hold back only what may be their beginning, and flush it at the end", async () => {
    const { post } = await serve({ script });
    const chunks = await chunksOf(
      await post(PATH, { prompt: "x", stop: ["abd?", "!!"], max_tokens: 7, stream: true }),
    );
    const texts = chunks.flatMap(({ choices }) => choices.map(({ text }) => text));
    expect(texts.filter((text) => text !== "")).toEqual(["abc", "abd", "!"]);
    expect(chunks.at(-1)?.choices[0].finish_reason).toBe("length");
  });

  it("of which the one that begins first counts", async () => {
    const { post } = await serve({ script });
    const answer = await whole(await post(PATH, { prompt: "x", stop: ["bca", "ca"], max_tokens: 7 }));
    expect(answer.choices[0]).toMatchObject({ text: "a", stop_reason: "bca" });
  });
});

describe("stop tokens", () => {
  it("named by the client end the text, and are said", async () => {
    const { post } = await serve({ script: ids("abc") });
    const [, b] = ids("abc");
    const answer = await whole(await post(PATH, { prompt: "x", stop_token_ids: [b] }));
    expect(answer.choices[0]).toMatchObject({ text: "a", finish_reason: "stop", stop_reason: b });
    expect(answer.usage?.completion_tokens).toBe(2);
  });

  it("are no event of a stream that has no log probabilities", async () => {
    const { post } = await serve({ script: [...ids("a"), END] });
    const chunks = await chunksOf(await post(PATH, { prompt: "x", stream: true }));
    const choices = chunks.flatMap((chunk) => chunk.choices);
    expect(choices.map(({ text, finish_reason }) => [text, finish_reason])).toEqual([
      ["a", null],
      ["", "stop"],
    ]);
  });

  it("of the model do not where ignore_eos says so", async () => {
    const { post, engine } = await serve({ script: [END, ...ids("a")] });
    const body = { prompt: "x", max_tokens: 2 };
    expect((await whole(await post(PATH, body))).choices[0]).toMatchObject({
      text: "",
      finish_reason: "stop",
    });
    const on = await whole(await post(PATH, { ...body, ignore_eos: true }));
    expect(on.choices[0]).toMatchObject({ text: "a", finish_reason: "length" });
    const shown = await whole(await post(PATH, { ...body, ignore_eos: true, skip_special_tokens: false }));
    expect(shown.choices[0].text).toBe("<|endoftext|>a");
    expect(engine.requests.map(({ sampling }) => sampling.stopTokens)).toEqual([[END], [], []]);
  });
});

describe("usage", () => {
  it("is in a stream only when asked for: a chunk without choices before the end", async () => {
    const { post } = await serve();
    const body = { prompt: ["a", "we the"], max_tokens: 3, stream: true, seed: 1, ignore_eos: true };
    const plain = eventsOf(await (await post(PATH, body)).text());
    expect(plain.filter((event) => event.includes("usage"))).toEqual([]);
    const asked = eventsOf(
      await (await post(PATH, { ...body, stream_options: { include_usage: true } })).text(),
    );
    expect(asked.at(-1)).toBe("[DONE]");
    const chunks = asked.slice(0, -1).map((event) => JSON.parse(event) as Chunk);
    const prompt_tokens = 1 + ids("we the").length;
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens, completion_tokens: 6, total_tokens: prompt_tokens + 6 },
    });
    for (const chunk of chunks.slice(0, -1)) expect(chunk.usage).toBeNull();
  });
});

describe("several choices", () => {
  const body = { prompt: ["a", "we"], n: 3, seed: 11, max_tokens: 6, logprobs: 2, ignore_eos: true };

  it("are streamed by index, log probabilities with their text", async () => {
    const { post } = await serve({ slots: 3 });
    const { choices } = await whole(await post(PATH, body));
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
    const chunks = await chunksOf(await post(PATH, { ...body, stream: true }));
    for (const { index, text, logprobs } of choices) {
      const own = chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === index);
      expect(own.map((choice) => choice.text).join("")).toBe(text);
      const parts = own.flatMap((choice) => choice.logprobs ?? []);
      for (const key of ["tokens", "token_logprobs", "top_logprobs", "text_offset"] as const)
        expect(parts.flatMap((part) => part[key] as unknown[])).toEqual(logprobs?.[key]);
      expect(own.filter(({ finish_reason }) => finish_reason !== null)).toHaveLength(1);
      expect(own.at(-1)?.finish_reason).toBe("length");
    }
  });

  it("differ, with a seed; each is the same in any request", async () => {
    const { post, engine } = await serve();
    const { choices } = await whole(await post(PATH, body));
    expect(new Set(choices.slice(0, 3).map(({ text }) => text)).size).toBe(3);
    const alone = await whole(await post(PATH, { ...body, prompt: "we", n: 1 }));
    expect(alone.choices[0].text).toBe(choices[3].text);
    const seeds = engine.requests.map(({ sampling }) => sampling.seed);
    expect(seeds.slice(0, 3)).toEqual(seeds.slice(3, 6));
    expect(seeds[0]).toBe(11);
    expect(new Set(seeds).size).toBe(3);
  });

  it("with a seed are the same beside neighbours without one", async () => {
    const { post } = await serve({ slots: 8 });
    const seeded = { ...body, n: 2, prompt: "we" };
    const alone = await whole(await post(PATH, seeded));
    const [beside] = await Promise.all([
      post(PATH, seeded).then(whole),
      post(PATH, { ...seeded, seed: undefined }),
      post(PATH, { ...seeded, seed: undefined, prompt: "the state of the union" }),
    ]);
    expect(beside.choices).toEqual(alone.choices);
  });

  it("without a seed have one of their own each", async () => {
    const { post, engine } = await serve();
    await post(PATH, { ...body, seed: undefined });
    await post(PATH, { ...body, seed: -5 });
    const seeds = engine.requests.map(({ sampling }) => sampling.seed);
    expect(new Set(seeds.slice(0, 6)).size).toBe(6);
    for (const seed of seeds) expect(Number.isSafeInteger(seed) && seed >= 0).toBe(true);
  });
});

describe("echo", () => {
  it("begins the text, streamed or not", async () => {
    const { post } = await serve({ script: ids("!") });
    for (const prompt of ["the é", ids("the é")]) {
      const answer = await whole(await post(PATH, { prompt, echo: true, max_tokens: 1, logprobs: 0 }));
      expect(answer.choices[0].text).toBe("the é!");
      expect(answer.choices[0].logprobs?.text_offset.at(-1)).toBe(5);
      const chunks = await chunksOf(await post(PATH, { prompt, echo: true, max_tokens: 1, stream: true }));
      expect(textOf(chunks)).toBe("the é!");
    }
  });

  it("alone is the prompt, its first log probability null", async () => {
    const { post } = await serve();
    for (const stream of [false, true]) {
      const response = await post(PATH, { prompt: "we the", echo: true, max_tokens: 0, logprobs: 1, stream });
      const [chunk] = stream ? await chunksOf(response) : [await whole(response)];
      const { text, logprobs } = chunk.choices[0];
      expect(text).toBe("we the");
      expect(logprobs?.token_logprobs[0]).toBeNull();
      expect(logprobs?.token_logprobs.slice(1).every((value) => (value as number) < 0)).toBe(true);
      expect(logprobs?.tokens).toHaveLength(ids("we the").length);
    }
  });
});

describe("prompts", () => {
  it("are texts, lists of texts, ids, or lists of ids", async () => {
    const { post, engine } = await serve();
    const text = ids("we the");
    for (const prompt of ["we the", ["we the"], text, [text], [text, [1]]])
      expect((await post(PATH, { prompt, max_tokens: 1 })).status).toBe(200);
    expect(engine.requests.map(({ prompt }) => prompt)).toEqual([text, text, text, text, text, [1]]);
  });

  it("without text are new documents", async () => {
    const { post, engine } = await serve();
    const { choices } = await whole(await post(PATH, { prompt: "", max_tokens: 0, echo: true, logprobs: 0 }));
    expect(engine.requests[0].prompt).toEqual([END]);
    expect(choices[0]).toMatchObject({ text: "", logprobs: { tokens: ["<|endoftext|>"], text_offset: [0] } });
  });

  it("may fill the context to its last token, and no further", async () => {
    const { post } = await serve({ contextLength: 10 });
    const prompt = (length: number) => new Array<number>(length).fill(5);
    expect((await post(PATH, { prompt: prompt(9), max_tokens: 1 })).status).toBe(200);
    expect((await post(PATH, { prompt: prompt(10), max_tokens: 0 })).status).toBe(200);
    expect((await whole(await post(PATH, { prompt: prompt(7), ignore_eos: true }))).usage).toMatchObject({
      completion_tokens: 3,
    });
    for (const body of [
      { prompt: prompt(11), max_tokens: 0 },
      { prompt: prompt(10) },
      { prompt: prompt(9), max_tokens: 2 },
      { prompt: "x".repeat(99) },
    ]) {
      const response = await post(PATH, body);
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({
        error: { code: "context_length_exceeded", param: "prompt", type: "invalid_request_error" },
      });
    }
  });
});
