import type { z } from "zod";
import { InputError, didYouMean } from "./errors.js";
import { shown } from "./shown.js";

/** Parses with a schema; the first problem becomes one line that names the key, and suggests when it is unknown. */
export function parseWith<T extends z.ZodObject>(schema: T, input: unknown, where: string): z.output<T> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const path = issue.path.join(".");
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0];
    const near = didYouMean(key, keysAt(schema, issue.path));
    throw new InputError(
      `${where}: unknown key "${path ? `${path}.` : ""}${key}"${near ? `; did you mean "${near}"?` : ""}`,
    );
  }
  const found = issue.path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown>)?.[key],
    input,
  );
  throw new InputError(`${where}: ${path || "value"}: ${issue.message} (found ${shown(found)})`);
}

function keysAt(schema: z.ZodObject, path: readonly PropertyKey[]): string[] {
  let current: unknown = schema;
  for (const key of path) {
    let shape = (current as { shape?: Record<PropertyKey, unknown> }).shape;
    while (shape === undefined && (current as { unwrap?: () => unknown }).unwrap !== undefined) {
      current = (current as { unwrap: () => unknown }).unwrap();
      shape = (current as { shape?: Record<PropertyKey, unknown> }).shape;
    }
    current = shape?.[key];
  }
  while ((current as { unwrap?: () => unknown })?.unwrap !== undefined)
    current = (current as { unwrap: () => unknown }).unwrap();
  return Object.keys((current as { shape?: Record<string, unknown> })?.shape ?? {});
}
