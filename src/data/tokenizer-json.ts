/** What a `tokenizer.json` must be before anything is made of it: Hugging Face's own code believes what it is given. */
import type { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { explain } from "../storage/files.js";

/** No vocabulary has as many tokens; a table by id is as long as the largest. */
const MOST_TOKENS = 2 ** 24;

const isId = (x: unknown): boolean => Number.isInteger(x) && Number(x) >= 0 && Number(x) < MOST_TOKENS;
const isObject = (x: unknown): x is Record<string, unknown> =>
  typeof x === "object" && x !== null && !Array.isArray(x);
const isListOf = (isPart: (x: unknown) => boolean, x: unknown): boolean =>
  x == null || (Array.isArray(x) && x.every(isPart));
const isPart = (x: unknown): boolean => x == null || (isObject(x) && typeof x.type === "string");
const isMerge = (x: unknown): boolean =>
  typeof x === "string"
    ? x.includes(" ")
    : Array.isArray(x) && x.length === 2 && x.every((half) => typeof half === "string");
const isScored = (x: unknown): boolean =>
  Array.isArray(x) && typeof x[0] === "string" && typeof x[1] === "number";
/** Whether there is one at all is asked elsewhere. */
const isVocabulary = (x: unknown): boolean =>
  Array.isArray(x) ? x.every(isScored) : !isObject(x) || Object.values(x).every(isId);
const isAdded = (x: unknown): boolean => isObject(x) && isId(x.id) && typeof x.content === "string";

interface Rule {
  readonly find: (json: Record<string, unknown>, model: Record<string, unknown>) => unknown;
  readonly isRight: (found: unknown) => boolean;
  readonly wanted: string;
}

const part = (name: string): [string, Rule] => [
  name,
  { find: (json) => json[name], isRight: isPart, wanted: "null, or an object with a type" },
];
const RULES: ReadonlyMap<string, Rule> = new Map([
  ["model.vocab", { find: (_, { vocab }) => vocab, isRight: isVocabulary, wanted: "tokens with ids from 0" }],
  [
    "model.type",
    { find: (_, { type }) => type ?? "", isRight: (x) => typeof x === "string", wanted: "a name" },
  ],
  [
    "model.merges",
    { find: (_, { merges }) => merges, isRight: (x) => isListOf(isMerge, x), wanted: "pairs of tokens" },
  ],
  [
    "added_tokens",
    {
      find: (json) => json.added_tokens,
      isRight: (x) => isListOf(isAdded, x),
      wanted: "objects with id and content",
    },
  ],
  part("normalizer"),
  part("pre_tokenizer"),
  part("post_processor"),
  part("decoder"),
]);

/** @throws InputError naming the key, what was found and what was wanted */
export function checkTokenizerJson(json: unknown, file: string): void {
  if (!isObject(json) || !isObject(json.model)) return;
  for (const [key, { find, isRight, wanted }] of RULES) {
    const found = find(json, json.model);
    if (!isRight(found))
      throw new InputError(
        `${file} is not a tokenizer that can be used: ${key} is ${shown(found)}, wanted ${wanted}`,
      );
  }
}

type Foreign = Pick<HuggingFaceTokenizer, "encode" | "decode">;

/**
 * Another's tokenizer, whose errors are about its own code, made to say what was wrong with the file.
 * @throws InputError; RangeError where a text is too long for the stack
 */
export function guarded(make: () => Foreign, file: string): Foreign {
  const guard = <T>(action: () => T): T => {
    try {
      return action();
    } catch (error) {
      if (error instanceof RangeError) throw error;
      const why = error instanceof TypeError ? "a part of it is missing or of another kind" : explain(error);
      throw new InputError(`${file} is not a tokenizer that can be used: ${why}`);
    }
  };
  const foreign = guard(make);
  return {
    encode: (...given: Parameters<Foreign["encode"]>) => guard(() => foreign.encode(...given)),
    decode: (...given: Parameters<Foreign["decode"]>) => guard(() => foreign.decode(...given)),
  };
}
