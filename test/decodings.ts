/** Tokenizers of every kind that texts come from token by token, with ids that are hard on whoever decodes so. */
import fc from "fast-check";
import { BpeTokenizer, trainBpe } from "../src/data/bpe.js";
import { readCorpus } from "../src/data/corpus.js";
import { type Tokenizer, bpeToJson } from "../src/data/tokenizer.js";
import { readPipeline } from "../src/data/tokenizer/pipeline.js";

export type Decoding = Pick<Tokenizer, "decode" | "isByte" | "tokenBytes">;

/** Bytes only: every character beyond ASCII takes several tokens. */
export const bytes = new BpeTokenizer(trainBpe([], 257));
const model = trainBpe(readCorpus("sotu").train.slice(0, 12), 600);
const hex = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, "0");
const words = ["<unk>", "</s>", "▁", "▁the", "na", "tion", "▁▁", "é", "\ufeff", "\ufffd", ""];
const fallback = {
  ...(bpeToJson(model) as object),
  added_tokens: [],
  pre_tokenizer: null,
  model: {
    type: "BPE",
    byte_fallback: true,
    unk_token: "<unk>",
    vocab: Object.fromEntries(
      [...words, ...Array.from({ length: 256 }, (_, byte) => `<0x${hex(byte)}>`)].map((t, i) => [t, i]),
    ),
    merges: [],
  },
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
};
const pipeline = (json: object): Decoding => readPipeline(json as Record<string, unknown>, {}, "a test");
const metaspace = {
  ...fallback,
  decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "first" },
};
const firstByte = model.vocabulary.get("!") as number;
const byteOf = (byte: number): number => words.length + byte;

export interface DecodingCase {
  readonly name: string;
  readonly tokenizer: Decoding;
  readonly numIds: number;
  /** An id that decodes to nothing. */
  readonly silent: number;
  readonly idOfByte: (byte: number) => number;
  /** Whether the ids of bytes are bytes to the decoder, too. */
  readonly hasBytes: boolean;
}

const byteLevel = {
  numIds: 601,
  silent: 600,
  idOfByte: (byte: number) => firstByte - 33 + byte,
  hasBytes: true,
};
const withWords = {
  numIds: words.length + 256,
  silent: words.length - 1,
  idOfByte: byteOf,
  hasBytes: true,
};

export const DECODINGS: readonly DecodingCase[] = [
  {
    name: "our bytes",
    tokenizer: bytes,
    numIds: 258,
    silent: 257,
    idOfByte: (byte) => bytes.encode("!")[0] - 33 + byte,
    hasBytes: true,
  },
  { name: "our byte-level BPE", tokenizer: new BpeTokenizer(model), ...byteLevel },
  { name: "a byte-level BPE of any kind", tokenizer: pipeline(bpeToJson(model) as object), ...byteLevel },
  {
    ...{ name: "byte fallback", tokenizer: pipeline(fallback), ...withWords },
    ...{ numIds: words.length + 257, silent: words.length + 256 },
  },
  { name: "byte fallback, a token of nothing", tokenizer: pipeline(fallback), ...withWords },
  { name: "Metaspace", tokenizer: pipeline(metaspace), ...withWords, hasBytes: false },
];

/** Any ids; bytes that often are parts of characters, or of the mark that a decoder drops at its start; whole characters. */
export function anyIds({ numIds, silent, idOfByte }: DecodingCase): fc.Arbitrary<number[]> {
  const part = fc.oneof(
    { weight: 3, arbitrary: fc.nat(numIds - 1).map((id) => [id]) },
    { weight: 1, arbitrary: fc.nat(words.length - 1).map((id) => [id]) },
    { weight: 1, arbitrary: fc.constant([silent]) },
    {
      weight: 3,
      arbitrary: fc
        .constantFrom(0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xef, 0xbb, 0xbf, 0xc3, 0x28)
        .map((byte) => [idOfByte(byte)]),
    },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom("€", "🧑‍🚀", "\ufeff", "é", "\ufffd")
        .map((text) => [...new TextEncoder().encode(text)].map(idOfByte)),
    },
  );
  return fc.array(part, { maxLength: 30, size: "max" }).map((parts) => parts.flat());
}
