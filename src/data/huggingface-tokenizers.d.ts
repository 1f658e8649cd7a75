/** What is used of the package. Its own declarations import without file extensions, which Node's resolution refuses. */
declare module "@huggingface/tokenizers" {
  export class Tokenizer {
    /** @param json the content of a tokenizer.json; throws on what it does not know */
    constructor(json: object, config: object);
    encode(text: string, options?: { readonly add_special_tokens?: boolean }): { readonly ids: number[] };
    decode(ids: number[], options?: { readonly clean_up_tokenization_spaces?: boolean }): string;
  }
}
