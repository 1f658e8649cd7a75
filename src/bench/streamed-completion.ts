/** One completion over the wire, read as it is written. */

/** What a stream said in all. */
export interface StreamedAnswer {
  readonly text: string;
  readonly tokens: number;
  readonly finishReason: string;
}

export type Streamed = {
  /** Of each event with a choice: the first since the request was sent, the others since the one before. */
  readonly eventsMs: readonly number[];
} & (
  | { readonly answer: StreamedAnswer; readonly failure?: undefined; readonly message?: undefined }
  /** The status; "stream": it broke off; "connection": there was none. */
  | { readonly answer?: undefined; readonly failure: string; readonly message?: string | undefined }
);

interface Chunk {
  readonly choices?: readonly { readonly text: string; readonly finish_reason: string | null }[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly error?: { readonly message: string };
}

/** @param body of a streamed request that includes usage; never rejects */
export async function streamCompletion(
  { address, key }: { readonly address: string; readonly key?: string | undefined },
  body: object,
): Promise<Streamed> {
  const eventsMs: number[] = [];
  let lastMs = performance.now();
  let failure = "connection";
  try {
    const response = await fetch(`${address}/v1/completions`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify(body),
    });
    if (!response.ok || response.body === null)
      return { eventsMs, failure: String(response.status), message: messageOf(await response.text()) };
    failure = "stream";
    let [text, tokens, finishReason, isDone] = ["", 0, "", false];
    for await (const data of events(response.body)) {
      if (data === "[DONE]") {
        isDone = true;
        continue;
      }
      const { choices = [], usage, error } = JSON.parse(data) as Chunk;
      if (error !== undefined) return { eventsMs, failure, message: error.message };
      if (usage) tokens = usage.completion_tokens;
      for (const choice of choices) {
        const nowMs = performance.now();
        eventsMs.push(nowMs - lastMs);
        lastMs = nowMs;
        text += choice.text;
        finishReason = choice.finish_reason ?? finishReason;
      }
    }
    return isDone ? { eventsMs, answer: { text, tokens, finishReason } } : { eventsMs, failure };
  } catch (error) {
    return { eventsMs, failure, message: (error as Error).message };
  }
}

function messageOf(text: string): string | undefined {
  try {
    return (JSON.parse(text) as Chunk).error?.message;
  } catch {
    return undefined;
  }
}

/** The data of server-sent events of one line each. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of body) {
    const parts = (rest + decoder.decode(piece, { stream: true })).split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}
