/** Values of files of others as plain ones: an object's own `toString` or `valueOf` may throw, so none is asked. */
export function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** NaN where it is no number. */
export function asNumber(value: unknown): number {
  return typeof value === "number" ? value : NaN;
}
