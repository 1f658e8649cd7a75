/** Bodies of requests: JSON in UTF-8, and nothing else. */
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ApiError } from "./errors.js";
import { invalid } from "./errors.js";

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** @param limit bytes of a body */
export function addBodies(app: FastifyInstance, limit: number): void {
  // Names such as "__proto__" are refused, not followed.
  const parse = app.getDefaultJsonParser("error", "error") as (
    request: FastifyRequest,
    text: string,
    done: (error: Error | null, value?: unknown) => void,
  ) => void;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    "application/json",
    { parseAs: "buffer", bodyLimit: limit },
    (request, body, done) => {
      let text: string;
      try {
        text = utf8.decode(body as Buffer);
      } catch {
        return done(invalid("The body is not UTF-8", undefined, "invalid_utf8"));
      }
      if (text.trim() === "") return done(notJson("it is empty"));
      parse(request, text, (error, value) => {
        if (error === null || error === undefined) done(null, value);
        else done(notJson(whyNot(text)));
      });
    },
  );
}

/** Of a text that was refused. */
function whyNot(text: string): string {
  try {
    JSON.parse(text);
    return "a key is __proto__, or constructor with a prototype; wanted other names";
  } catch (error) {
    return (error as Error).message;
  }
}

const notJson = (why: string): ApiError =>
  invalid(`The body is not JSON that can be read: ${why}`, undefined, "invalid_json");
