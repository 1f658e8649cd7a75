/**
 * A client that scores texts the way evaluation harnesses do over OpenAI's wire format: the request has context and continuation as
 * token ids, `echo`, `logprobs`, and `max_tokens` 0 or 1; what the model wrote beyond the continuation is cut off.
 */
import { expect, it } from "vitest";
import { FakeEngine } from "./fake-engine.js";
import { type Served, serve, tokenizer } from "./served.js";

interface Answer {
  readonly choices: readonly {
    readonly index: number;
    readonly logprobs: {
      readonly tokens: readonly string[];
      readonly token_logprobs: readonly (number | null)[];
      readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
    };
  }[];
}

interface Scored {
  readonly logprob: number;
  readonly isGreedy: boolean;
}

/** [context, continuation] → log probability of the continuation, and whether greedy decoding would write it. */
async function logLikelihoods(
  { post }: Served,
  pairs: readonly (readonly [context: number[], continuation: number[]])[],
  maxTokens: 0 | 1,
): Promise<Scored[]> {
  const response = await post("/v1/completions", {
    model: "tiny",
    prompt: pairs.map(([context, continuation]) => [...context, ...continuation]),
    max_tokens: maxTokens,
    logprobs: 1,
    echo: true,
    temperature: 0,
    seed: 1234,
  });
  expect(response.status).toBe(200);
  const { choices } = (await response.json()) as Answer;
  return [...choices]
    .sort((a, b) => a.index - b.index)
    .map(({ logprobs }, i) => {
      const from = pairs[i][0].length;
      const end = maxTokens === 1 ? -1 : undefined;
      const tokens = logprobs.tokens.slice(from, end);
      const values = logprobs.token_logprobs.slice(from, end);
      const tops = logprobs.top_logprobs.slice(from, end);
      const isGreedy = tokens.every((token, j) => {
        const entries = Object.entries(tops[j] ?? {});
        return entries.sort((a, b) => b[1] - a[1])[0][0] === token;
      });
      return { logprob: values.reduce<number>((sum, value) => sum + (value as number), 0), isGreedy };
    });
}

/** What the engine itself says. */
async function direct(pairs: Parameters<typeof logLikelihoods>[1]): Promise<Scored[]> {
  const engine = new FakeEngine({ vocabSize: tokenizer.vocabSize });
  const sampling = { maxNewTokens: 0, promptLogprobs: 1, stopTokens: [], logitBias: [] };
  return Promise.all(
    pairs.map(
      ([context, continuation]) =>
        new Promise<Scored>((resolve) => {
          engine.submit(
            { prompt: [...context, ...continuation], sampling: sampling as never },
            {
              promptLogprobs(tokens) {
                const own = tokens.slice(context.length - 1);
                resolve({
                  logprob: own.reduce((sum, { logprob }) => sum + logprob, 0),
                  isGreedy: own.every(({ rank }) => rank === 0),
                });
              },
              token: () => undefined,
              end: () => undefined,
              failed: () => undefined,
            },
          );
        }),
    ),
  );
}

const PAIRS = [
  ["the state", " of the union"],
  ["we", " the people"],
  ["the people of", " é"],
  ["a", "b"],
].map((pair) => pair.map((text) => tokenizer.encode(text)) as [number[], number[]]);

it.each([0, 1] as const)("scores continuations with max_tokens %i", async (maxTokens) => {
  const served = await serve({ chunk: 3 });
  const scored = await logLikelihoods(served, PAIRS, maxTokens);
  const wanted = await direct(PAIRS);
  expect(scored.map(({ isGreedy }) => isGreedy)).toEqual(wanted.map(({ isGreedy }) => isGreedy));
  scored.forEach(({ logprob }, i) => expect(logprob).toBeCloseTo(wanted[i].logprob, 10));
});

it("knows what greedy decoding would write", async () => {
  const served = await serve();
  const context = tokenizer.encode("the nation");
  const written = await served.post("/v1/completions", {
    prompt: context,
    max_tokens: 3,
    temperature: 0,
    logprobs: 0,
    ignore_eos: true,
    return_tokens_as_token_ids: true,
  });
  const { choices } = (await written.json()) as Answer;
  const ids = choices[0].logprobs.tokens.map((name) => Number(name.replace("token_id:", "")));
  const [scored] = await logLikelihoods(served, [[context, ids]], 1);
  expect(scored.isGreedy).toBe(true);
  const [other] = await logLikelihoods(served, [[context, [...ids.slice(0, 2), (ids[2] + 1) % 256]]], 1);
  expect(other.isGreedy).toBe(false);
});

it("has one new token's entry even where the model ends the text", async () => {
  const { post } = await serve({ script: [tokenizer.endOfText] });
  const prompt = tokenizer.encode("the state");
  const response = await post("/v1/completions", { prompt, max_tokens: 1, echo: true, logprobs: 1 });
  const { choices } = (await response.json()) as Answer;
  expect(choices[0].logprobs.token_logprobs).toHaveLength(prompt.length + 1);
  expect(choices[0].logprobs.token_logprobs[0]).toBeNull();
  expect(choices[0].logprobs.top_logprobs[0]).toBeNull();
});

it("gives rolling likelihoods of one text: all but the first token", async () => {
  const { post } = await serve();
  const prompt = tokenizer.encode("we the people");
  const response = await post("/v1/completions", { prompt, max_tokens: 0, echo: true, logprobs: 5 });
  const { choices } = (await response.json()) as Answer & {
    choices: { text: string; finish_reason: string }[];
  };
  const [{ logprobs }] = choices;
  expect(choices[0]).toMatchObject({ text: "we the people", finish_reason: "length" });
  expect(logprobs.token_logprobs.map((value) => value === null)).toEqual(prompt.map((_, i) => i === 0));
  expect(logprobs.tokens.join("")).toBe("we the people");
});
