/** Models that Hugging Face's JavaScript library encodes words with; all stages around the model are ours. */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { InputError } from "../../core/errors.js";
import { guarded } from "../tokenizer-json.js";
import type { Model } from "./model.js";
import type { Part } from "./part.js";

/** @throws InputError when the library cannot use it */
export function libraryModel(part: Part, file: string): Model {
  const bare = {
    version: "1.0",
    added_tokens: [],
    ...{ normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null },
    model: part.fields,
  };
  const library = guarded(() => new HuggingFaceTokenizer(bare, {}), file);
  return {
    encode(word) {
      try {
        return [...library.encode(word, { add_special_tokens: false }).ids];
      } catch (error) {
        // The library collects a word as a whole, which overflows the stack where it is very long.
        if (error instanceof RangeError)
          throw new InputError(
            `The tokenizer ${file} cannot encode a text of ${word.length} characters in one piece (${error.message}); split the text into several files`,
          );
        throw error;
      }
    },
  };
}
