/** `prompt`: a text, texts, token ids, or lists of token ids. */
import { z } from "zod";

export type Prompt = string | readonly number[];

const WANTED = "wanted a text, a list of texts, a list of token ids, or a list of lists of token ids";
const MOST_PROMPTS = 4_096;
const LARGEST_ID = 2 ** 24;

const isId = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= LARGEST_ID;
const isIds = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length > 0 && value.every(isId);

/** Looked at as a whole: a list may have a million numbers. */
function problemOf(value: unknown): string | undefined {
  if (typeof value === "string" || isIds(value)) return undefined;
  if (!Array.isArray(value)) return WANTED;
  if (value.length === 0) return "the list is empty; wanted at least one prompt";
  if (value.every((entry) => typeof entry === "number"))
    return `wanted token ids: whole numbers from 0 to ${LARGEST_ID}`;
  if (value.length > MOST_PROMPTS) return `wanted at most ${MOST_PROMPTS} prompts`;
  const isText = typeof value[0] === "string";
  const odd = value.findIndex((entry) => (isText ? typeof entry !== "string" : !isIds(entry)));
  if (odd < 0) return undefined;
  const entry: unknown = value[odd];
  return Array.isArray(entry) && entry.length === 0
    ? `prompt ${odd} is empty; wanted at least one token`
    : WANTED;
}

const id = { type: "integer", minimum: 0, maximum: LARGEST_ID };
const ids = { type: "array", items: id, minItems: 1 };

/** A list of token ids, as long as it likes. */
export const tokenIds = z
  .unknown()
  .refine((value) => Array.isArray(value) && value.every(isId), {
    error: "wanted a list of token ids",
    params: { isOfType: true },
  })
  .transform((value) => value as readonly number[])
  .meta({ type: "array", items: id });

export const prompt = z
  .unknown()
  .superRefine((value, context) => {
    const message = value === undefined ? "wanted a prompt" : problemOf(value);
    if (message === undefined) return;
    context.addIssue({ code: "custom", message, params: { isOfType: !Array.isArray(value) } });
  })
  .transform((value): readonly Prompt[] =>
    typeof value === "string" || typeof (value as unknown[])[0] === "number"
      ? [value as Prompt]
      : (value as readonly Prompt[]),
  )
  .meta({
    description: "a text, texts, token ids, or lists of token ids; an empty text is a new document",
    anyOf: [
      { type: "string" },
      { type: "array", items: { type: "string" }, minItems: 1, maxItems: MOST_PROMPTS },
      ids,
      { type: "array", items: ids, minItems: 1, maxItems: MOST_PROMPTS },
    ],
  });
