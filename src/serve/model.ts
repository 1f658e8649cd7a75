/** What is served: a model's name, and what stands between text and its tokens. */
import type { Tokenizer } from "../data/tokenizer.js";
import type { ChatTemplate } from "./chat-template.js";
import { contextExceeded, invalid } from "./errors.js";
import type { Vocabulary } from "./vocabulary.js";

/** Makes text of tokens. */
export type Decoder = Pick<Tokenizer, "decode" | "isByte">;

export interface ServedModel {
  readonly name: string;
  /** A published folder may have none: then there are only token ids. */
  readonly tokenizer?: Tokenizer | undefined;
  readonly vocabulary: Vocabulary;
  readonly chatTemplate: ChatTemplate;
  /** Tokens after which a text ends. */
  readonly endTokens: readonly number[];
}

/** @throws ApiError of status 400: the request needs a tokenizer, and there is none */
export function tokenizerOf({ tokenizer, name }: ServedModel, param: string): Tokenizer {
  if (tokenizer !== undefined) return tokenizer;
  throw invalid(`${name} has no tokenizer.json; only token ids can be asked of it`, param, "no_tokenizer");
}

/**
 * Ids of a text, and how many of them were put before it; no longer worked on than it takes to know that it is too long.
 * @param mostTokens that the context holds
 * @param addSpecial whether what a text begins with is put before it, unless it is there
 * @throws ApiError of status 400 when it is too long, or there is no tokenizer
 */
export function encodeText(
  model: ServedModel,
  text: string,
  { addSpecial, mostTokens, param }: { addSpecial: boolean; mostTokens: number; param: string },
): { readonly ids: number[]; readonly added: number } {
  const tokenizer = tokenizerOf(model, param);
  const ids: number[] = [];
  for (const piece of tokenizer.encodePieces(text)) {
    for (let i = 0; i < piece.length; i++) ids.push(piece[i]);
    if (ids.length > mostTokens)
      throw contextExceeded(mostTokens, `a prompt of ${ids.length} or more`, param);
  }
  const { beginning } = tokenizer;
  const isThere = beginning.every((id, i) => ids[i] === id);
  return addSpecial && !isThere
    ? { ids: [...beginning, ...ids], added: beginning.length }
    : { ids, added: 0 };
}

/** What a prompt without text is: a new document. */
export function newDocument(model: ServedModel): number[] {
  const { beginning, endOfText } = tokenizerOf(model, "prompt");
  return beginning.length > 0 ? [...beginning] : [endOfText];
}
