import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DECODINGS, type Decoding, anyIds, bytes } from "../../../test/decodings.js";
import { textStream } from "./text-stream.js";

describe("textStream()", () => {
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

  it.each(DECODINGS)("gives the pieces of decoding everything: $name", (decoding) => {
    const { tokenizer } = decoding;
    const ids = anyIds(decoding);
    fc.assert(
      fc.property(ids, ids, (prompt, added) => {
        const pieces: string[] = [];
        const stream = textStream(tokenizer, prompt, (piece) => pieces.push(piece));
        let sure = "";
        for (const id of added) {
          stream.add(id);
          sure = pieces.join("") + stream.pending();
        }
        const written = stream.end();
        if (added.length > 0) expect(sure).toBe(written);
        expect({ pieces, written }).toEqual(reference(tokenizer, prompt, added));
      }),
      { numRuns: 300, seed: 11 },
    );
  });

  it.each(DECODINGS)(
    "decodes a few ids for each token, or the bytes that hang together, however long the text: $name",
    ({ tokenizer, silent, idOfByte }) => {
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
