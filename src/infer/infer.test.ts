import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readCorpus } from "../data/corpus.js";
import { type Tokenizer, bpeToJson } from "../data/tokenizer.js";
import { BpeTokenizer, trainBpe } from "../data/bpe.js";
import { readPipeline } from "../data/tokenizer/pipeline.js";
import { sample } from "./sampling.js";
import { textStream } from "./text-stream.js";

describe("textStream()", () => {
  /** Bytes only: every character beyond ASCII takes several tokens. */
  const bytes = new BpeTokenizer(trainBpe([], 257));
  it("never cuts a character, and its pieces are the text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (prompt, text) => {
        const pieces: string[] = [];
        const stream = textStream(bytes, bytes.encode(prompt), (piece) => pieces.push(piece));
        for (const id of bytes.encode(text)) stream.add(id);
        expect(stream.end()).toBe(text);
        expect(pieces.join("")).toBe(text);
        for (const piece of pieces) expect(text.includes("\ufffd") || !piece.includes("\ufffd")).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it("hands out bytes that are no character once more text follows, or at the end", () => {
    const pieces: string[] = [];
    const stream = textStream(bytes, [], (piece) => pieces.push(piece));
    for (const byte of [0xc3, 0x28]) stream.add(bytes.encode(String.fromCharCode(40))[0] - 40 + byte);
    expect(pieces).toEqual(["\ufffd("]);
    stream.add(bytes.encode("(")[0] - 40 + 0xe2);
    expect(pieces).toHaveLength(1);
    expect(stream.end()).toBe("\ufffd(\ufffd");
  });

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
  type Decoding = Pick<Tokenizer, "decode" | "isByte">;
  const pipeline = (json: object): Decoding => readPipeline(json as Record<string, unknown>, {}, "a test");
  const metaspace = {
    ...fallback,
    decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "first" },
  };
  /** Number of ids, an id that decodes to nothing where there is one, and the ids of bytes. */
  const firstByte = model.vocabulary.get("!") as number;
  const byteOf = (byte: number): number => words.length + byte;
  const tokenizers: [string, Decoding, number, number, (byte: number) => number][] = [
    ["our bytes", bytes, 258, 257, (byte) => bytes.encode("!")[0] - 33 + byte],
    ["our byte-level BPE", new BpeTokenizer(model), 601, 600, (byte) => firstByte - 33 + byte],
    [
      "a byte-level BPE of any kind",
      pipeline(bpeToJson(model) as object),
      601,
      600,
      (byte) => firstByte - 33 + byte,
    ],
    ["byte fallback", pipeline(fallback), words.length + 257, words.length + 256, byteOf],
    ["byte fallback, a token of nothing", pipeline(fallback), words.length + 256, words.length - 1, byteOf],
    ["Metaspace", pipeline(metaspace), words.length + 256, words.length - 1, byteOf],
  ];

  /** Decodes everything for each token. */
  function reference(tokenizer: Decoding, prompt: readonly number[], ids: readonly number[]) {
    const skip = tokenizer.decode(prompt).length;
    const pieces: string[] = [];
    let written = "";
    const emit = (text: string): void => {
      if (text.length <= written.length) return;
      pieces.push(text.slice(written.length));
      written = text;
    };
    ids.forEach((_, i) => {
      const text = tokenizer.decode([...prompt, ...ids.slice(0, i + 1)]).slice(skip);
      if (!text.endsWith("\ufffd")) emit(text);
    });
    emit(tokenizer.decode([...prompt, ...ids]).slice(skip));
    return { pieces, written: pieces.join("") };
  }

  it.each(tokenizers)(
    "gives the pieces of decoding everything: %s",
    (_, tokenizer, numIds, silent, idOfByte) => {
      // Any ids; bytes that often are parts of characters, or of the mark that a decoder drops at its start; whole characters.
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
      const ids = fc.array(part, { maxLength: 30, size: "max" }).map((parts) => parts.flat());
      fc.assert(
        fc.property(ids, ids, (prompt, added) => {
          const pieces: string[] = [];
          const stream = textStream(tokenizer, prompt, (piece) => pieces.push(piece));
          for (const id of added) stream.add(id);
          const written = stream.end();
          expect({ pieces, written }).toEqual(reference(tokenizer, prompt, added));
        }),
        { numRuns: 300, seed: 11 },
      );
    },
  );

  it.each(tokenizers)(
    "decodes a few ids for each token, or the bytes that hang together, however long the text: %s",
    (_, tokenizer, _numIds, silent, idOfByte) => {
      let decoded = 0;
      const counting = {
        isByte: (id: number) => tokenizer.isByte(id),
        decode(ids: Iterable<number>) {
          const list = [...ids];
          decoded += list.length;
          return tokenizer.decode(list);
        },
      };
      for (const repeated of [idOfByte(0x41), idOfByte(0x80), idOfByte(0xe2), silent]) {
        const stream = textStream(counting, [idOfByte(0xf0), idOfByte(0x9f)]);
        for (let i = 0; i < 200; i++) {
          decoded = 0;
          stream.add(repeated);
          expect(decoded).toBeLessThanOrEqual(tokenizer.isByte(repeated) ? 24 + 2 * i : 24);
        }
      }
    },
  );
});

describe("sample()", () => {
  // Probabilities 1/2, 1/4, 1/8, 1/16, 1/16 at ids 3, 0, 4, 1, 2.
  const logits = Float32Array.from([2, 4, 4, 1, 3], (power) => Math.log(2 ** -power));
  const base = { maxNewTokens: 1, temperature: 1, topK: 0, topP: 1, seed: 5 };
  const counts = (options: Partial<typeof base>): number[] => {
    const found = [0, 0, 0, 0, 0];
    for (let i = 0; i < 4000; i++) found[sample(logits, { ...base, ...options }, i)]++;
    return found.map((n) => n / 4000);
  };

  it("draws with the probabilities of the softmax", () => {
    [1 / 4, 1 / 16, 1 / 16, 1 / 2, 1 / 8].forEach((p, id) =>
      expect(Math.abs(counts({})[id] - p)).toBeLessThan(0.03),
    );
  });

  it("keeps the k likeliest, and the fewest that reach p", () => {
    const used = (options: Partial<typeof base>) =>
      counts(options).flatMap((share, id) => (share > 0 ? [id] : []));
    expect(used({ topK: 2 })).toEqual([0, 3]);
    expect(used({ topP: 0.5 })).toEqual([3]);
    expect(used({ topP: 0.51 })).toEqual([0, 3]);
    expect(used({ topP: 0.8 })).toEqual([0, 3, 4]);
    expect(used({ topK: 99 })).toEqual([0, 1, 2, 3, 4]);
    expect(used({ topP: 1e-9 })).toEqual([3]);
    expect(used({ temperature: 0 })).toEqual([3]);
    expect(used({ temperature: 1e-6 })).toEqual([3]);
  });

  it("is a function of seed and position", () => {
    const draw = (seed: number) => Array.from({ length: 20 }, (_, i) => sample(logits, { ...base, seed }, i));
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });
});
