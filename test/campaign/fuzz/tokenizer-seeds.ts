/** Texts, and right files of tokenizers of all kinds. */
import { SMALLEST_VOCABULARY, trainBpe } from "../../../src/data/bpe.js";
import { bpeToJson } from "../../../src/data/tokenizer.js";

export const TEXT =
  "My fellow citizens, the state of our Union is strong.\nWe've 21 millions of new jobs; 🙂 naïve café, don't you think?\n\n";
export const BPE_JSON = bpeToJson(trainBpe([TEXT], SMALLEST_VOCABULARY + 20));
export const WORDPIECE_JSON = {
  version: "1.0",
  added_tokens: [
    {
      id: 0,
      content: "[UNK]",
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    },
    {
      id: 1,
      content: "[SEP]",
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    },
  ],
  normalizer: {
    type: "BertNormalizer",
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: null,
  decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  model: {
    type: "WordPiece",
    unk_token: "[UNK]",
    continuing_subword_prefix: "##",
    max_input_chars_per_word: 100,
    vocab: {
      "[UNK]": 0,
      "[SEP]": 1,
      my: 2,
      fellow: 3,
      citizens: 4,
      the: 5,
      "##s": 6,
      a: 7,
      "##n": 8,
      union: 9,
    },
  },
};
export const PATTERNS = [
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "(?<=[a-z&&[^x]])(?>\\h{2,3})++$|[[:alpha:]_]*?(?<!b)\\b",
];
const end = { id: 2, content: "</s>", lstrip: false, rstrip: true, normalized: true, special: true };
/** Byte fallback as in Llama 2. */
export const LLAMA_JSON = {
  added_tokens: [end, { id: 3, content: "my", single_word: true, lstrip: true, normalized: true }],
  normalizer: {
    type: "Sequence",
    normalizers: [
      { type: "NFKC" },
      { type: "Prepend", prepend: "▁" },
      { type: "Replace", pattern: { String: " " }, content: "▁" },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
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
  model: {
    type: "BPE",
    unk_token: "<unk>",
    fuse_unk: true,
    byte_fallback: true,
    vocab: {
      "<unk>": 0,
      "<s>": 1,
      "</s>": 2,
      "<0xC3>": 3,
      "<0xAF>": 4,
      "▁": 5,
      m: 6,
      y: 7,
      "▁m": 8,
      "▁my": 9,
    },
    merges: [["▁", "m"], "▁m y"],
  },
};
/** Byte level with a pattern of its own, as in Llama 3. */
export const SPLIT_JSON = {
  ...(BPE_JSON as Record<string, unknown>),
  normalizer: { type: "NFC" },
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: PATTERNS[0] }, behavior: "Isolated", invert: false },
      { type: "Metaspace", replacement: "_", prepend_scheme: "first", split: true },
      { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    ],
  },
};
