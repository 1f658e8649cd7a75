import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bpeTokenizer } from "../data/tokenizer.js";
import { trainBpe } from "../data/bpe.js";
import { sample } from "./sampling.js";
import { textStream } from "./text-stream.js";

describe("textStream()", () => {
  /** Bytes only: every character beyond ASCII takes several tokens. */
  const bytes = bpeTokenizer(trainBpe([], 257));
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
