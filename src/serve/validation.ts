/** A request's body as a schema wants it, or the first thing that is wrong with it. */
import type { z } from "zod";
import { shown } from "../core/shown.js";
import { type ApiError, invalid } from "./errors.js";

/** Values within a body, lists of tokens aside (their schemas look at them as a whole): nobody needs more. */
const MOST_VALUES = 50_000;
/** Objects and lists within each other: what follows them by calling itself must not run out of stack. */
const MOST_LEVELS = 32;
/** Keys whose values are taken as they are: lists of tokens, and what a template may be told to be null. */
const AS_THEY_ARE = new Set(["prompt", "tokens", "chat_template_kwargs"]);

/**
 * Keys whose value is null are as if they were not there, within other values, too.
 * @throws ApiError of status 400 naming the key, what was found and what was wanted
 */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw invalid(`The body is ${shown(body)}; wanted a JSON object`, undefined, "invalid_type");
  refuseMultitudes(body as Readonly<Record<string, unknown>>);
  const given = Object.fromEntries(
    Object.entries(body).flatMap(([key, value]: [string, unknown]) =>
      value === null ? [] : [[key, AS_THEY_ARE.has(key) ? value : withoutNulls(value)]],
    ),
  );
  const result = schema.safeParse(given, { reportInput: true });
  if (result.success) return result.data;
  throw problem(result.error.issues[0]);
}

/** A schema says all that is wrong with a value: of a million wrong ones that would take all memory. */
function refuseMultitudes({ prompt: _, tokens: __, ...rest }: Readonly<Record<string, unknown>>): void {
  let level: readonly unknown[] = [rest];
  let count = 0;
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MOST_LEVELS)
      throw invalid(`The body is nested more than ${MOST_LEVELS} levels deep`, undefined, "too_deep");
    const next: unknown[] = [];
    for (const value of level) {
      const parts: unknown[] = Object.values(value as object);
      count += parts.length;
      if (count > MOST_VALUES)
        throw invalid(`The body has more than ${MOST_VALUES} values`, undefined, "too_many_values");
      for (const part of parts) if (typeof part === "object" && part !== null) next.push(part);
    }
    level = next;
  }
}

/** Entries of lists stay: their places count. */
function withoutNulls(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(withoutNulls);
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, part]) => (part === null ? [] : [[key, withoutNulls(part)]])),
  );
}

function problem(issue: z.core.$ZodIssue): ApiError {
  const inner = innermost(issue);
  const param = pathOf(inner.path);
  const place = param === "" ? "" : `${param}: `;
  if (inner.code === "unrecognized_keys") {
    const name = pathOf([...inner.path, inner.keys[0]]);
    return invalid(`Unrecognized request argument supplied: ${name}`, name, "unknown_parameter");
  }
  if (inner.input === undefined)
    return invalid(`Missing required parameter: '${param}'`, param, "missing_required_parameter");
  const code = isOfType(inner) ? "invalid_type" : "invalid_value";
  return invalid(
    `${place}${inner.message}${isScalar(inner.input) ? `; found ${shown(inner.input)}` : ""}`,
    param,
    code,
  );
}

/** Whether the value is of another kind than wanted, whatever it is. */
function isOfType(issue: z.core.$ZodIssue): boolean {
  if (issue.code === "custom") return issue.params?.isOfType === true;
  return issue.code === "invalid_type" || issue.code === "invalid_union";
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
