/** Servers for tests: a small tokenizer, an engine without a model, any free port of loopback. */
import { afterEach } from "vitest";
import { type Server, type ServerOptions, createServer } from "../../src/serve/server.js";
import { FakeEngine, type FakeEngineOptions } from "./fake-engine.js";
import { model, tokenizer } from "./model.js";

export { END, model, tokenizer } from "./model.js";

export interface Served {
  readonly server: Server;
  readonly engine: FakeEngine;
  readonly url: string;
  readonly post: (path: string, body: unknown, headers?: Record<string, string>) => Promise<Response>;
  readonly get: (path: string, headers?: Record<string, string>) => Promise<Response>;
}

const open: { readonly server: Server; readonly engine: FakeEngine }[] = [];
afterEach(async () => {
  for (const { server, engine } of open.splice(0)) {
    await engine.close();
    await server.close();
  }
});

/** Closed after the test. */
export async function serve(
  engineOptions: Partial<FakeEngineOptions> = {},
  options: Partial<ServerOptions> = {},
): Promise<Served> {
  const engine = new FakeEngine({ vocabSize: tokenizer.vocabSize, ...engineOptions });
  const server = createServer({ engine, model, ...options });
  open.push({ server, engine });
  const url = await server.listen({ port: 0 });
  return {
    server,
    engine,
    url,
    post: (path, body, headers) =>
      fetch(`${url}${path}`, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers: { "content-type": "application/json", ...headers },
      }),
    get: (path, headers) => fetch(`${url}${path}`, { headers }),
  };
}

/** The data of server-sent events, as they were written. */
export function eventsOf(text: string): string[] {
  return text
    .split("\n\n")
    .filter((event) => event !== "")
    .map((event) => event.replace(/^data: /, ""));
}

export interface Chunk {
  readonly id: string;
  readonly object: string;
  readonly choices: readonly {
    readonly index: number;
    readonly text: string;
    readonly logprobs: {
      readonly tokens: string[];
      readonly token_logprobs: (number | null)[];
      readonly top_logprobs: (Record<string, number> | null)[];
      readonly text_offset: number[];
    } | null;
    readonly finish_reason: string | null;
    readonly stop_reason: string | number | null;
  }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly total_tokens: number;
  } | null;
}

/** The chunks of a stream that is whole. */
export async function chunksOf(response: Response): Promise<Chunk[]> {
  const events = eventsOf(await response.text());
  if (events.at(-1) !== "[DONE]") throw new Error(`The stream does not end: ${events.at(-1)}`);
  return events.slice(0, -1).map((event) => JSON.parse(event) as Chunk);
}

export const textOf = (chunks: readonly Chunk[], index = 0): string =>
  chunks
    .flatMap(({ choices }) => choices)
    .filter((choice) => choice.index === index)
    .map(({ text }) => text)
    .join("");
