/** A file of requests, one JSON object to a line, as programs hand them to `generate --batch`. */
import { InputError, didYouMean } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import type { BatchRequest } from "../infer/generate-batch.js";
import { WRITING_KEYS, type WritingOptions, checkPrompt, writingOptions } from "../infer/writing-options.js";

/** A request, and what its line calls it. */
export interface BatchLine {
  /** Anything that JSON has; goes into its result. */
  readonly id?: unknown;
  readonly request: BatchRequest;
}

const KEYS = ["id", "prompt", ...WRITING_KEYS];

/**
 * Empty lines are left out.
 * @param usual of what lines do not say
 * @throws InputError naming file and line of the first that is no request
 */
export function readBatch(text: string, file: string, usual: Partial<WritingOptions>): BatchLine[] {
  const lines = text.replace(/^\ufeff/, "").split(/\r?\n/);
  const read = lines.flatMap((line, i) =>
    line.trim() === "" ? [] : [readLine(line, `${file}:${i + 1}`, usual)],
  );
  if (read.length === 0)
    throw new InputError(`${file} has no requests; wanted lines such as {"prompt": "Our nation"}`);
  return read;
}

function readLine(line: string, where: string, usual: Partial<WritingOptions>): BatchLine {
  const json = parseJson(line, where);
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new InputError(`${where}: wanted an object such as {"prompt": "Our nation"}`);
  const unknown = Object.keys(json).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) {
    const near = didYouMean(unknown, KEYS);
    throw new InputError(
      `${where}: unknown key ${JSON.stringify(unknown)}${near === undefined ? "" : `; did you mean "${near}"?`} (known: ${KEYS.join(", ")})`,
    );
  }
  const { id, prompt, stop, ...said } = json as Readonly<Record<string, unknown>>;
  if (prompt === undefined) throw new InputError(`${where}: wanted a prompt: a text, or a list of token ids`);
  checkPrompt(where, prompt);
  const own = { ...said, ...(stop === undefined ? {} : { stop: typeof stop === "string" ? [stop] : stop }) };
  const options = writingOptions(where, { ...usual, ...(own as Partial<WritingOptions>) });
  return { id, request: { where, prompt, ...options } };
}
