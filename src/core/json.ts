import { InputError } from "./errors.js";

/** Nobody writes deeper; beyond some thousands, whatever walks through the value would end at the stack's end. */
const DEEPEST = 100;

/**
 * JSON that was written elsewhere.
 * @param where the file, for messages
 * @throws InputError when it is not JSON, or nested deeper than any of our formats
 */
export function parseJson(text: string, where: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new InputError(`${where} is not JSON`);
  }
  if (isDeeper(value, DEEPEST)) throw new InputError(`${where} is nested too deeply`);
  return value;
}

function isDeeper(value: unknown, most: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return most === 0 || Object.values(value).some((part) => isDeeper(part, most - 1));
}
