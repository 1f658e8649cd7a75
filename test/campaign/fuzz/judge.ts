/** What an error must be so that people can act on it. */
import { EnvironmentError, InputError } from "../../../src/core/errors.js";

const LONGEST = 600;
const UNSHOWABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** What is wrong with an error; undefined: nothing. */
export function complaint(thrown: unknown): string | undefined {
  if (!(thrown instanceof InputError || thrown instanceof EnvironmentError)) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    const frames = (error.stack ?? "").split("\n    at ").slice(1, 5);
    return `${error.name}: ${error.message.slice(0, 200)} (${frames.join(" < ")})`;
  }
  return wrongLine(thrown.message);
}

/** What is wrong with a line that people are told. */
export function wrongLine(line: string): string | undefined {
  if (line.length > LONGEST) return `a message of ${line.length} characters: ${line.slice(0, 100)}…`;
  if (UNSHOWABLE.test(line)) return `a message of several lines: ${line}`;
  if (/internal error|Maximum call stack|is not a function|Cannot read prop|\[object Object\]/.test(line))
    return `a message that is about us: ${line}`;
  return undefined;
}

/** What may be refused is; anything else that is thrown goes on. */
export function attempt(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    if (complaint(error) !== undefined) throw error;
  }
}
