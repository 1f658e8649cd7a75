/** Requests that are almost right, over every endpoint of the server: answered or refused in the documented form, and it lives. */
import { createServer } from "../../src/serve/server.js";
import { FakeEngine } from "../serve/fake-engine.js";
import { model, tokenizer } from "../serve/model.js";
import { type CampaignOptions, type CampaignResult, progressOf, repeatLine } from "./campaign.js";
import { Dice } from "./fuzz/dice.js";

const CASES = 100_000;
/** Refusals that a request may get; 500 is a bug. */
const REFUSALS = new Set([400, 404, 405, 413, 415]);
/** Looked at every so many cases: a request that is right is answered. */
const ALIVE_EVERY = 500;

export async function campaign({ seed, cases = CASES, say }: CampaignOptions): Promise<CampaignResult> {
  const result = await requestCases({ seed, cases, say });
  const counts = [...result.statuses].sort(([a], [b]) => a - b);
  return { ...result, notes: [`statuses: ${counts.map(([status, n]) => `${status} ${n} ×`).join(", ")}`] };
}

export async function requestCases({
  seed,
  cases,
  say = () => undefined,
}: Omit<CampaignOptions, "cases" | "say"> & {
  readonly cases: number;
  readonly say?: CampaignOptions["say"];
}): Promise<CampaignResult & { readonly statuses: ReadonlyMap<number, number> }> {
  const engine = new FakeEngine({
    vocabSize: tokenizer.vocabSize,
    contextLength: 128,
    slots: 64,
    script: [65, 66],
  });
  const server = createServer({ engine, model, limits: { maxBodyBytes: 1 << 16 } });
  const failures: string[] = [];
  const statuses = new Map<number, number>();
  const progress = progressOf(say, cases);
  const send = async (request: Request) => {
    const { statusCode, body } = await server.app.inject({ method: "POST", ...request });
    return { status: statusCode, body };
  };
  try {
    for (let i = 0; i < cases; i++) {
      const request = requestOf(new Dice(seed + i));
      const { status, body } = await send(request);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      const problem = problemOf(status, body);
      if (problem !== undefined)
        failures.push(`${request.url}: ${problem}; ${repeatLine("requests", seed + i)}`);
      if (engine.figures().running + engine.figures().waiting > 0)
        failures.push(`${request.url}: leaves a sequence behind; ${repeatLine("requests", seed + i)}`);
      if (i % ALIVE_EVERY === 0 && (await send(RIGHT)).status !== 200)
        failures.push(`the server no longer answers; ${repeatLine("requests", seed + i)}`);
      progress(i + 1, failures.length);
    }
  } finally {
    await server.close();
  }
  return { cases, failures, statuses };
}

interface Request {
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly payload: string | Buffer;
}

const JSON_HEADERS = { "content-type": "application/json" };
const RIGHT: Request = {
  url: "/v1/completions",
  headers: JSON_HEADERS,
  payload: JSON.stringify({ prompt: "we", max_tokens: 2 }),
};

function problemOf(status: number, body: string): string | undefined {
  if (status === 200) {
    if (!body.startsWith("data: ")) return isObject(body) ? undefined : "200 without a JSON object";
    return body.endsWith("data: [DONE]\n\n") ? undefined : "a stream without an end";
  }
  if (!REFUSALS.has(status)) return `status ${status}: ${body.slice(0, 200)}`;
  if (!isObject(body)) return `status ${status} without a JSON object`;
  const { error } = JSON.parse(body) as { error?: Record<string, unknown> };
  if (typeof error?.message !== "string" || error.message.length > 600 || error.message.includes("\n"))
    return `status ${status} without a line of at most 600 characters`;
  return error.type === "invalid_request_error" && "param" in error && "code" in error
    ? undefined
    : `status ${status} without type, param and code`;
}

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null;
  } catch {
    return false;
  }
}

type Json = Record<string, unknown>;
type Make = (dice: Dice) => unknown;

const ODD: readonly unknown[] = [
  null, true, false, 0, 1, -1, 0.5, -0, 1e308, -1e308, 2 ** 31, 2 ** 53, 2 ** 64, 1e-320, "", "a", "1", "NaN",
  "\u0000", "\ud800", "🙂", "null", [], [[]], [null], [0], ["a"], {}, { a: 1 }, { type: "text" }, "x".repeat(5_000),
]; // prettier-ignore
const TEXTS = [
  "we the people",
  "the é€🙂",
  "a",
  " ",
  "\n\n",
  "<|endoftext|>",
  "### user\n",
  "x".repeat(90),
  "ab\u0000",
];
const text: Make = (dice) => dice.pick(TEXTS);
const whole =
  (from: number, to: number): Make =>
  (dice) =>
    from + dice.below(to - from + 1);
const real =
  (from: number, to: number): Make =>
  (dice) =>
    from + ((to - from) * dice.below(1_001)) / 1_000;
const flag: Make = (dice) => dice.chance(0.5);
const list =
  (make: Make, most: number): Make =>
  (dice) =>
    Array.from({ length: dice.below(most + 1) }, () => make(dice));
const ids = list(whole(0, 310), 12);
const one =
  (...makes: readonly Make[]): Make =>
  (dice) =>
    dice.pick(makes)(dice);
const logitBias: Make = (dice) =>
  Object.fromEntries(Array.from({ length: dice.below(4) }, () => [dice.below(305), dice.below(203) - 101]));
const message: Make = (dice) => ({
  role: dice.pick(["user", "assistant", "system", "developer", "tool"]),
  content: dice.chance(0.7) ? text(dice) : [{ type: dice.pick(["text", "text", "image"]), text: text(dice) }],
  ...(dice.chance(0.2) ? { refusal: null, tool_calls: [], annotations: [] } : {}),
});
const messages = list(message, 4);

const SAMPLING: Readonly<Record<string, Make>> = {
  model: (dice) => dice.pick(["tiny", "tiny", "tiny", "other"]),
  n: whole(1, 4),
  max_tokens: whole(0, 20),
  temperature: real(0, 2),
  top_p: real(0.01, 1),
  top_k: whole(-1, 50),
  min_p: real(0, 1),
  repetition_penalty: real(0.5, 2),
  presence_penalty: real(-2, 2),
  frequency_penalty: real(-2, 2),
  logit_bias: logitBias,
  seed: whole(0, 1e6),
  stop: one(text, list(text, 3)),
  stop_token_ids: ids,
  ignore_eos: flag,
  skip_special_tokens: flag,
  stream: flag,
  user: text,
};
const ENDPOINTS: readonly {
  readonly url: string;
  readonly needs: Record<string, Make>;
  readonly may: Record<string, Make>;
}[] = [
  {
    url: "/v1/completions",
    needs: { prompt: one(text, text, list(text, 3), ids, list(ids, 3)) },
    may: {
      ...SAMPLING,
      echo: flag,
      logprobs: whole(0, 5),
      add_special_tokens: flag,
      return_tokens_as_token_ids: flag,
    },
  },
  {
    url: "/v1/chat/completions",
    needs: { messages },
    may: {
      ...SAMPLING,
      logprobs: flag,
      top_logprobs: whole(0, 5),
      add_generation_prompt: flag,
      continue_final_message: flag,
    },
  },
  { url: "/tokenize", needs: { prompt: text }, may: { add_special_tokens: flag, return_token_strs: flag } },
  { url: "/tokenize", needs: { messages }, may: { add_generation_prompt: flag, return_token_strs: flag } },
  { url: "/detokenize", needs: { tokens: ids }, may: { model: text } },
];

function requestOf(dice: Dice): Request {
  const { url, needs, may } = dice.pick(ENDPOINTS);
  const body: Json = Object.fromEntries(Object.entries(needs).map(([key, make]) => [key, make(dice)]));
  const optional = Object.entries(may);
  for (let left = dice.below(5); left > 0; left--) {
    const [key, make] = dice.pick(optional);
    body[key] = make(dice);
  }
  if (body.stream === true && dice.chance(0.5)) body.stream_options = { include_usage: flag(dice) };
  // Half of them are left as they are.
  if (dice.chance(0.5)) for (let left = 1 + dice.below(2); left > 0; left--) spoil(body, dice);
  const payload = Buffer.from(JSON.stringify(body));
  return { url, headers: JSON_HEADERS, payload: dice.chance(0.15) ? spoilBytes(payload, dice) : payload };
}

/** A value somewhere within becomes an odd one, goes, or gets a neighbour. */
function spoil(body: Json, dice: Dice): void {
  let at: Json = body;
  for (;;) {
    const keys = Object.keys(at);
    if (keys.length === 0) break;
    const key = dice.pick(keys);
    const inner = at[key];
    if (typeof inner === "object" && inner !== null && dice.chance(0.6)) at = inner as Json;
    else {
      if (dice.chance(0.7)) at[key] = structuredClone(dice.pick(ODD));
      else if (dice.chance(0.5)) delete at[key];
      else
        at[dice.pick(["extra", "toString", "constructor", "n ", "PROMPT"])] = structuredClone(dice.pick(ODD));
      return;
    }
  }
}

function spoilBytes(bytes: Buffer, dice: Dice): Buffer {
  const out = Buffer.from(bytes);
  if (dice.chance(0.3)) return out.subarray(0, dice.below(out.length + 1));
  for (let left = 1 + dice.below(3); left > 0 && out.length > 0; left--)
    out[dice.below(out.length)] = dice.below(256);
  return out;
}
