/** A request's body as a schema wants it, or the first thing that is wrong with it. */
import type { z } from "zod";
import { shown } from "../core/shown.js";
import { type ApiError, invalid } from "./errors.js";

/** Values within a body, lists of tokens aside (their schemas look at them as a whole): nobody needs more. */
const MOST_VALUES = 50_000;

/**
 * Keys whose value is null are as if they were not there.
 * @throws ApiError of status 400 naming the key, what was found and what was wanted
 */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw invalid(`The body is ${shown(body)}; wanted a JSON object`, undefined, "invalid_type");
  const given = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null));
  refuseMultitudes(given);
  const result = schema.safeParse(given, { reportInput: true });
  if (result.success) return result.data;
  throw problem(result.error.issues[0]);
}

/** A schema says all that is wrong with a value: of a million wrong ones that would take all memory. */
function refuseMultitudes({ prompt: _, tokens: __, ...rest }: Readonly<Record<string, unknown>>): void {
  const open: unknown[] = [rest];
  let count = 0;
  while (open.length > 0) {
    const value = open.pop();
    if (typeof value !== "object" || value === null) continue;
    const parts = Object.values(value);
    count += parts.length;
    if (count > MOST_VALUES)
      throw invalid(`The body has more than ${MOST_VALUES} values`, undefined, "too_many_values");
    for (const part of parts) if (typeof part === "object") open.push(part);
  }
}

function problem(issue: z.core.$ZodIssue): ApiError {
  const inner = innermost(issue);
  const param = pathOf(inner.path);
  const place = param === "" ? "" : `${param}: `;
  if (inner.code === "unrecognized_keys") {
    const name = pathOf([...inner.path, inner.keys[0]]);
    return invalid(`Unrecognized request argument supplied: ${name}`, name, "unknown_parameter");
  }
  if (inner.code === "invalid_type" && inner.input === undefined)
    return invalid(`Missing required parameter: '${param}'`, param, "missing_required_parameter");
  const code = inner.code === "invalid_type" ? "invalid_type" : "invalid_value";
  return invalid(
    `${place}${inner.message}${isScalar(inner.input) ? `; found ${shown(inner.input)}` : ""}`,
    param,
    code,
  );
}

/** Of a union that no branch fits, what the branch says that came nearest. */
function innermost(issue: z.core.$ZodIssue, path: readonly PropertyKey[] = []): z.core.$ZodIssue {
  const whole = { ...issue, path: [...path, ...issue.path] };
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return whole;
  const deepest = issue.errors
    .map((issues) => issues[0])
    .filter((other) => other !== undefined && other.path.length > 0)
    .sort((a, b) => b.path.length - a.path.length)[0];
  return deepest === undefined ? whole : innermost(deepest, whole.path);
}

/** `messages[0].content` */
function pathOf(path: readonly PropertyKey[]): string {
  return path
    .map((key, i) => (typeof key === "number" ? `[${key}]` : `${i > 0 ? "." : ""}${String(key)}`))
    .join("");
}

const isScalar = (value: unknown): boolean => value !== undefined && typeof value !== "object";
