/** What the server says of itself, against what it takes. */
import { describe, expect, it } from "vitest";
import { OPERATIONS } from "../../src/serve/openapi.js";
import { serve } from "./served.js";

interface ObjectSchema {
  readonly properties: Readonly<
    Record<string, { minimum?: number; maximum?: number; exclusiveMinimum?: number; enum?: unknown[] }>
  >;
}

describe("openapi.json", () => {
  it("describes itself: every route, and the keys that requests are checked with", async () => {
    const { get, server } = await serve();
    const document = (await (await get("/openapi.json")).json()) as {
      openapi: string;
      paths: Record<string, Record<string, { requestBody?: { content: Record<string, { schema: never }> } }>>;
    };
    expect(document.openapi).toBe("3.1.0");
    const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace("{model}", "*")}`),
    );
    const known = ["GET", "POST"].flatMap((method) =>
      [...new Set(OPERATIONS.map(({ path }) => path.replace("{model}", "*")))]
        .filter((url) => server.app.hasRoute({ method: method, url }))
        .map((url) => `${method} ${url}`),
    );
    expect(routes.sort()).toEqual(known.sort());
    const schema = document.paths["/v1/completions"].post.requestBody?.content["application/json"]
      .schema as unknown;
    expect(schema).toMatchObject({
      additionalProperties: false,
      required: ["prompt"],
      properties: { prompt: { anyOf: expect.any(Array) }, temperature: { maximum: 100 }, n: { default: 1 } },
    });
  });

  it("says of every key what is taken, and nothing more", async () => {
    const { get, server } = await serve();
    const { paths } = (await (await get("/openapi.json")).json()) as {
      paths: Record<string, { post: { requestBody: { content: Record<string, { schema: ObjectSchema }> } } }>;
    };
    for (const [url, body] of [
      ["/v1/completions", { prompt: "we" }],
      ["/v1/chat/completions", { messages: [{ role: "user", content: "we" }] }],
    ] as const) {
      const { properties } = paths[url].post.requestBody.content["application/json"].schema;
      let checked = 0;
      const isRefused = async (key: string, value: unknown): Promise<boolean> => {
        checked++;
        const others =
          key === "top_logprobs"
            ? { logprobs: true }
            : key === "best_of"
              ? { n: Math.min(128, Math.max(1, Number(value))) }
              : {};
        const payload = { ...body, ...others, [key]: value };
        const { param } = (await server.app.inject({ method: "POST", url, payload })).json<{
          error?: { param: string };
        }>().error ?? { param: null };
        return param === key;
      };
      for (const [key, { minimum, maximum, exclusiveMinimum, enum: values }] of Object.entries(properties)) {
        for (const edge of [minimum, maximum, ...(values ?? [])])
          if (edge !== undefined) expect([key, edge, await isRefused(key, edge)]).toEqual([key, edge, false]);
        for (const beyond of [
          ...(minimum === undefined ? [] : [minimum - 1]),
          ...(maximum === undefined ? [] : [maximum + 1]),
          ...(exclusiveMinimum === undefined ? [] : [exclusiveMinimum]),
          ...(values === undefined ? [] : ["odd"]),
        ])
          expect([key, beyond, await isRefused(key, beyond)]).toEqual([key, beyond, true]);
      }
      expect(checked).toBeGreaterThan(40);
    }
  });
});
