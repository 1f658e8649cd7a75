/** What `tokenizer_config.json` and common usage say about the tokens that begin and end a text. */
import { type Fields, isFields } from "./part.js";
import type { Surroundings } from "./post-processors.js";

/** How published tokenizers name the token that ends a text, most telling first. */
export const END_NAMES = [
  "<|endoftext|>",
  "<|end_of_text|>",
  "</s>",
  "<eos>",
  "[EOS]",
  "<|eot_id|>",
  "<|im_end|>",
  "[SEP]",
];

type IdOf = (token: string) => number | undefined;

/** A token is named by its text, or by an object with it. */
function namedId(config: Fields, key: string, idOf: IdOf): number | undefined {
  const value = config[key];
  const content = isFields(value) ? value.content : value;
  return typeof content === "string" ? idOf(content) : undefined;
}

export function endToken(config: Fields, idOf: IdOf): number | undefined {
  const named = namedId(config, "eos_token", idOf);
  return named ?? END_NAMES.map(idOf).find((id) => id !== undefined);
}

/** Where the tokenizer itself puts nothing around a text. */
export function surroundingsOf(config: Fields, idOf: IdOf): Surroundings {
  const where = (flag: string, key: string): number[] => {
    const id = config[flag] === true ? namedId(config, key, idOf) : undefined;
    return id === undefined ? [] : [id];
  };
  return { before: where("add_bos_token", "bos_token"), after: where("add_eos_token", "eos_token") };
}
