/** The files beside the weights of a published model that say what its tokens are, and where text begins and ends. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { exists, reading } from "../storage/files.js";
import { loadTokenizer } from "./tokenizer.js";

/** Handed on as they are found. */
const AS_FOUND = [
  "added_tokens.json",
  "chat_template.jinja",
  "generation_config.json",
  "merges.txt",
  "special_tokens_map.json",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "vocab.json",
];

/** Ids of the tokens around a text; what is not known is null: left out, a family's own default would hold. */
export interface TextTokens {
  readonly bos_token_id: number | null;
  readonly eos_token_id: number | readonly number[] | null;
  readonly pad_token_id: number | null;
}

/** Content of the files by name, and what config.json says of tokens. */
export interface TokenFiles {
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly tokens: TextTokens;
}

/**
 * @param directories a checkpoint or a published folder, and where else to look for what is not there
 * @param positions of the longest text
 * @param said what config.json of a published folder says; otherwise the tokenizer is asked
 * @throws InputError when a file cannot be read, or the tokenizer is not one
 */
export function tokenFiles(
  directories: readonly string[],
  positions: number,
  said: Partial<TextTokens> = {},
): TokenFiles {
  const files = new Map<string, Uint8Array>();
  for (const name of AS_FOUND) {
    const path = directories.map((directory) => join(directory, name)).find(exists);
    if (path !== undefined)
      files.set(
        name,
        reading(path, () => readFileSync(path)),
      );
  }
  const tokenizer = files.get("tokenizer.json");
  const asked = directories.map((directory) => join(directory, "tokenizer.json")).find(exists);
  const { bos_token_id = null, pad_token_id = null } = said;
  const end = said.eos_token_id;
  const tokens: TextTokens = {
    bos_token_id,
    eos_token_id: end !== undefined || asked === undefined ? (end ?? null) : loadTokenizer(asked).endOfText,
    pad_token_id,
  };
  const add = (name: string, value: unknown): void => {
    if (!files.has(name)) files.set(name, jsonBytes(value));
  };
  const known = Object.entries(tokens).filter(([, id]) => id !== null);
  add("generation_config.json", Object.fromEntries(known));
  if (tokenizer !== undefined)
    add("tokenizer_config.json", {
      tokenizer_class: "PreTrainedTokenizerFast",
      model_max_length: positions,
      clean_up_tokenization_spaces: false,
      ...names(String(Buffer.from(tokenizer)), tokens),
    });
  return { files, tokens };
}

/** Content of a file of JSON. */
export function jsonBytes(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`);
}

/** The tokens' texts under the names that tokenizers have for them. */
function names(tokenizer: string, { bos_token_id, eos_token_id, pad_token_id }: TextTokens) {
  const { added_tokens: added = [], model } = JSON.parse(tokenizer) as {
    added_tokens?: readonly { id: number; content: string }[];
    model?: { vocab?: Readonly<Record<string, number>> };
  };
  const textOf = (id: number | null | undefined): string | undefined =>
    added.find((token) => token.id === id)?.content ??
    Object.entries(model?.vocab ?? {}).find(([, other]) => other === id)?.[0];
  return {
    bos_token: textOf(bos_token_id),
    eos_token: textOf([eos_token_id].flat()[0]),
    pad_token: textOf(pad_token_id),
  };
}
