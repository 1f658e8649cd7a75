/**
 * Any `tokenizer.json`, as stages: the text is cut at added tokens, normalised, cut into words; the model gives each word's ids;
 * back, tokens go through the decoder. Each stage is a table of what its `type` may be.
 */
import { type AddedToken, addedParts, addedTokens, tokenFinder } from "./added-tokens.js";
import { bpeModel } from "./bpe.js";
import { BYTE, bytesOfToken, decoder, spaced } from "./decoders.js";
import type { Tokenizer } from "./interface.js";
import { libraryModel } from "./library-model.js";
import type { Model } from "./model.js";
import { normalizer } from "./normalizers.js";
import { type Fields, type Makers, type Part, isFields, make, refuse } from "./part.js";
import { NOTHING, type Surroundings, postProcessor } from "./post-processors.js";
import { type PreTokenization, preTokenizer, words } from "./pre-tokenizers.js";
import { endToken, surroundingsOf } from "./special-tokens.js";
import { WordIds } from "./word-ids.js";

/** @param file where `json` was read, for messages; @param config of `tokenizer_config.json`, empty without one */
export function readPipeline(
  json: Fields,
  config: Fields,
  file: string,
): Omit<Tokenizer, "endOfText"> & { readonly endOfText: number | undefined } {
  const part = (key: string): Part | undefined => {
    const fields = json[key];
    if (fields == null) return undefined;
    const where = `${file}: ${key}`;
    return isFields(fields) ? { fields, where } : refuse(where, fields, "an object");
  };
  const optional = <T>(key: string, maker: (part: Part) => T, usual: T): T => {
    const found = part(key);
    return found === undefined ? usual : maker(found);
  };
  const modelPart = part("model") as Part;
  const entries = entriesOf(modelPart.fields);
  const vocabulary = new Map(entries);
  const model = makeModel(modelPart, vocabulary, file);
  const added = addedTokens(addedParts((json.added_tokens ?? []) as Fields[], file), {
    size: vocabulary.size,
    idOf: (token) => vocabulary.get(token),
  });
  const normalize = optional("normalizer", normalizer, (s: string) => s);
  const pre = optional<PreTokenization>("pre_tokenizer", preTokenizer, { cut: [], perWord: (word) => word });
  const decode = optional("decoder", decoder, spaced);

  const tokens: string[] = [];
  for (const [token, id] of entries) tokens[id] = token;
  for (const token of added) tokens[token.id] = token.normalized ? normalize(token.content) : token.content;
  const addedIds = new Map(added.map((t) => [t.content, t.id]));
  const idOf = (token: string): number | undefined => addedIds.get(token) ?? vocabulary.get(token);
  const surroundings: Surroundings =
    json.post_processor == null
      ? surroundingsOf(config, idOf)
      : optional("post_processor", postProcessor, NOTHING);

  const unknown = [...surroundings.before, ...surroundings.after].find((id) => tokens[id] === undefined);
  if (unknown !== undefined) refuse(`${file}: post_processor`, unknown, "ids that tokens have");

  const findRaw = tokenFinder(
    added.filter((t) => !t.normalized),
    (t) => t.content,
  );
  const findNormalized = tokenFinder(
    added.filter((t) => t.normalized),
    (t) => normalize(t.content),
  );
  /** The words of a text, and the ids of the added tokens between them. */
  function* cut(text: string): Generator<string | number> {
    let isFirst = true;
    const isToken = (found: string | AddedToken): found is AddedToken => typeof found !== "string";
    for (const raw of findRaw(text)) {
      if (isToken(raw)) yield raw.id;
      else
        for (const found of findNormalized(normalize(raw))) {
          if (isToken(found)) yield found.id;
          else for (const word of words(pre.cut, { text: found, isFirst })) yield word.text;
          isFirst = false;
        }
      isFirst = false;
    }
  }
  const wordIds = new WordIds(model, pre.perWord);
  const encodePieces: Tokenizer["encodePieces"] = (text, onProgress) =>
    wordIds.pieces(cut(text.toWellFormed()), text.length, onProgress);
  return {
    vocabSize: tokens.length,
    endOfText: endToken(config, idOf),
    beginning: surroundings.before,
    ending: surroundings.after,
    encodePieces,
    encode(text) {
      const out: number[] = [];
      for (const piece of encodePieces(text)) for (let i = 0; i < piece.length; i++) out.push(piece[i]);
      return out;
    },
    decode(list) {
      const known: string[] = [];
      for (const id of list) if (tokens[id] !== undefined) known.push(tokens[id]);
      return decode(known).join("");
    },
    tokenBytes: (id) => (tokens[id] === undefined ? [] : bytesOfToken(tokens[id], decode, part("decoder"))),
    isByte: (id) => id in tokens && BYTE.test(tokens[id]),
  };
}

/** Tokens and their ids; a Unigram model lists [token, score]. */
function entriesOf({ vocab }: Fields): (readonly [token: string, id: number])[] {
  return Array.isArray(vocab)
    ? (vocab as [string, number][]).map(([token], id) => [token, id])
    : Object.entries(vocab as Record<string, number>);
}

function makeModel(part: Part, vocabulary: ReadonlyMap<string, number>, file: string): Model {
  const byLibrary = (): Model => libraryModel(part, file);
  const makers: Makers<Model> = {
    BPE: () => bpeModel(part, vocabulary),
    Unigram: byLibrary,
    WordPiece: byLibrary,
    WordLevel: byLibrary,
  };
  return make(part, makers);
}
