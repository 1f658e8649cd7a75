/** The endpoints for machines: OpenAPI 3.1, from the schemas that requests are checked with. */
import { z } from "zod";
import { VERSION } from "../core/version.js";
import { chatBody } from "./schemas/chat.js";
import { completionBody } from "./schemas/completions.js";
import { detokenizeBody, tokenizeConversation, tokenizeText } from "./schemas/tokens.js";

interface Operation {
  readonly path: string;
  readonly method: "get" | "post";
  readonly summary: string;
  /** Of the request. */
  readonly body?: z.ZodType;
  /** Of the answer; JSON where nothing is said. */
  readonly type?: string;
  /** Statuses beside 200, and those that any request may get. */
  readonly statuses?: readonly number[];
  readonly isOpen?: boolean;
}

const GENERATION = [404, 429, 503, 504];
export const OPERATIONS: readonly Operation[] = [
  { path: "/v1/models", method: "get", summary: "the model that is served" },
  { path: "/v1/models/{model}", method: "get", summary: "one model", statuses: [404] },
  {
    path: "/v1/completions",
    method: "post",
    summary: "texts that go on with prompts; with stream, server-sent events",
    body: completionBody,
    statuses: GENERATION,
  },
  {
    path: "/v1/chat/completions",
    method: "post",
    summary: "the next message of a conversation; with stream, server-sent events",
    body: chatBody,
    statuses: GENERATION,
  },
  {
    path: "/tokenize",
    method: "post",
    summary: "token ids of a text or a conversation",
    body: z.union([tokenizeText, tokenizeConversation]),
    statuses: [404],
  },
  {
    path: "/detokenize",
    method: "post",
    summary: "the text of token ids",
    body: detokenizeBody,
    statuses: [404],
  },
  { path: "/health", method: "get", summary: "whether it lives", statuses: [503], isOpen: true },
  { path: "/ready", method: "get", summary: "whether it takes requests", statuses: [503], isOpen: true },
  { path: "/metrics", method: "get", summary: "figures for Prometheus", type: "text/plain" },
  { path: "/openapi.json", method: "get", summary: "this document" },
  {
    path: "/debug/timeline",
    method: "get",
    summary: "the last step of a sharded server, as a page",
    type: "text/html",
    statuses: [404],
  },
];

const ERROR = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: { type: "string" },
        type: { type: "string" },
        param: { type: ["string", "null"] },
        code: { type: ["string", "null"] },
      },
    },
  },
};

const schemaOf = (body: z.ZodType): unknown => {
  const { $schema: _, ...schema } = z.toJSONSchema(body, { io: "input", unrepresentable: "any" });
  return schema;
};

let made: unknown;

export function openApi(): unknown {
  return (made ??= {
    openapi: "3.1.0",
    info: { title: "scmoe", version: VERSION, description: "OpenAI's wire format, with vLLM's additions" },
    components: {
      schemas: { Error: ERROR },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
    paths: pathsOf(),
  });
}

function pathsOf(): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of OPERATIONS) {
    const { path, method, summary, body, type = "application/json", statuses = [], isOpen } = operation;
    const all = [...(body === undefined ? [] : [400, 408, 413, 415]), ...(isOpen ? [] : [401]), ...statuses];
    const error = { content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } } };
    const failures = all.map((status) => [status, { description: "an error", ...error }]);
    paths[path] = {
      [method]: {
        summary,
        security: isOpen ? [] : [{ key: [] }, {}],
        ...(path.includes("{")
          ? { parameters: [{ name: "model", in: "path", required: true, schema: { type: "string" } }] }
          : {}),
        ...(body === undefined
          ? {}
          : { requestBody: { required: true, content: { "application/json": { schema: schemaOf(body) } } } }),
        responses: {
          200: { description: "the answer", content: { [type]: {} } },
          ...(Object.fromEntries(failures) as object),
        },
      },
    };
  }
  return paths;
}
