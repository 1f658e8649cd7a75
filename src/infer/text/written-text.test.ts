import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DECODINGS, type DecodingCase, anyIds, bytes } from "../../../test/decodings.js";
import { completionToken, tokenText } from "./token-text.js";
import { type TextPiece, WrittenText, type WrittenTextOptions, alignedText } from "./written-text.js";
import { textStream } from "./text-stream.js";

type Tokenizer = DecodingCase["tokenizer"];

/** All that a listener hears of these tokens. */
function write(
  tokenizer: Tokenizer,
  {
    prompt = [],
    ids,
    ...options
  }: WrittenTextOptions & { prompt?: readonly number[]; ids: readonly number[] },
) {
  const pieces: TextPiece[] = [];
  const written = new WrittenText(tokenizer, prompt, { ...options, onPiece: (piece) => pieces.push(piece) });
  const last = ids.findIndex((id) => written.add({ id }) === "stop");
  const end = written.end("length");
  return {
    ...{ pieces, end, read: last < 0 ? ids.length : last + 1 },
    texts: pieces.map(({ text }) => text),
    tokens: pieces.flatMap(({ tokens }) => tokens.map(({ token, offset }) => [token.id, offset])),
    cut: end.cut.map(({ token, offset }) => [token.id, offset]),
  };
}

const idsOf = (text: string): number[] => bytes.encode(text);
const [E2, X82] = idsOf("€");

describe("WrittenText", () => {
  it("holds a character back until its tokens are there, and says where it begins", () => {
    const { texts, tokens, end } = write(bytes, { ids: idsOf("a€😀b") });
    expect(texts).toEqual(["a", "€", "😀", "b"]);
    expect(tokens.map(([, offset]) => offset)).toEqual([0, 1, 1, 1, 2, 2, 2, 2, 3]);
    expect(end).toEqual({ reason: "length", text: "a€😀b", stop: undefined, cut: [] });
  });

  it("gives what there is of a character that nothing finishes: at the end, and where other text follows", () => {
    const atEnd = write(bytes, { ids: [...idsOf("a"), E2, X82] });
    expect([atEnd.texts, atEnd.tokens]).toEqual([["a", "\ufffd"], [[idsOf("a")[0], 0], [E2, 1], [X82, 1]]]); // prettier-ignore
    const within = write(bytes, { ids: [E2, X82, ...idsOf("ab")] });
    expect(within.texts).toEqual(["\ufffda", "b"]);
    expect(within.tokens.map(([, offset]) => offset)).toEqual([0, 0, 1, 2]);
  });

  it("goes on with a character that the prompt began, and counts from where it is told to", () => {
    const { texts, tokens } = write(bytes, { prompt: idsOf("€€"), ids: idsOf("é!"), offset: 2 });
    expect(texts).toEqual(["é", "!"]);
    expect(tokens.map(([, offset]) => offset)).toEqual([2, 2, 3]);
  });

  it("ends before a stop string across tokens, whose tokens are in no piece", () => {
    const { texts, end, read, tokens, cut } = write(bytes, { ids: idsOf("éa STOP b"), stop: ["STOP"] });
    expect(texts).toEqual(["é", "a", " "]);
    expect(end).toMatchObject({ reason: "stop", text: "éa ", stop: "STOP" });
    expect(read).toBe("éa STOP".length + 1);
    expect(tokens.map(([, offset]) => offset)).toEqual([0, 0, 1, 2]);
    expect(cut).toEqual(idsOf("STOP").map((id) => [id, 3]));
  });

  it("hands out what only began like a stop string, with its tokens, and at the end what still does", () => {
    const { pieces, end } = write(bytes, { ids: idsOf("STAR ST"), stop: ["STOP"] });
    expect(pieces.map(({ text, tokens }) => [text, tokens.length])).toEqual([["STA", 3], ["R", 1], [" ", 1], ["ST", 2]]); // prettier-ignore
    expect(end).toMatchObject({ reason: "length", text: "STAR ST", cut: [] });
  });

  it("includes the stop string where asked to", () => {
    const { end, cut } = write(bytes, { ids: idsOf("a€"), stop: ["€"], includeStop: true });
    expect(end).toMatchObject({ reason: "stop", text: "a€", stop: "€" });
    expect(cut).toEqual([]);
  });

  it("finds a stop string of several characters in one token, and keeps the token's beginning", () => {
    const [, { tokenizer }] = DECODINGS;
    const united = tokenizer as unknown as { encode(text: string): number[] };
    const [id] = united.encode(" of");
    expect(tokenizer.decode([id])).toBe(" of");
    const { texts, tokens } = write(tokenizer, { ids: [id], stop: ["of"] });
    expect([texts, tokens]).toEqual([[" "], [[id, 0]]]);
  });

  it("leaves a stop token out, and the bytes before it are all that come of a character", () => {
    const end = bytes.endOfText;
    const written = write(bytes, { ids: [...idsOf("aS"), E2, end], stop: ["STOP"], stopTokens: [end] });
    expect(written.end).toMatchObject({ reason: "stop", text: "aS\ufffd", stop: end });
    expect(written.read).toBe(4);
    expect(written.cut).toEqual([[end, 3]]);
    expect(written.tokens.map(([, offset]) => offset)).toEqual([0, 1, 2]);
  });

  it("says why it ended otherwise", () => {
    expect(new WrittenText(bytes, []).end("cancelled")).toMatchObject({ reason: "cancelled", text: "" });
  });

  it.each(DECODINGS)("gives the text of any tokens, each once and in order: $name", (decoding) => {
    const { tokenizer } = decoding;
    const ids = anyIds(decoding);
    const stop = fc.array(fc.constantFrom("€", "\ufffd", "na", " the", "(", "e", "é\ufffd"), {
      maxLength: 2,
    });
    fc.assert(
      fc.property(ids, ids, stop, (prompt, added, strings) => {
        const found = write(tokenizer, { prompt, ids: added, stop: strings });
        const whole = textStream(tokenizer, prompt);
        for (const id of added) whole.add(id);
        const all = whole.end();
        const first = Math.min(...strings.map((s) => all.indexOf(s)).filter((at) => at >= 0), all.length);
        expect(found.end.text).toBe(all.slice(0, first));
        expect(found.end.reason).toBe(strings.some((s) => all.includes(s)) ? "stop" : "length");
        expect(found.texts.join("")).toBe(found.end.text);
        const tokens = [...found.tokens, ...found.cut];
        expect(tokens.map(([id]) => id)).toEqual(added.slice(0, found.read));
        const offsets = tokens.map(([, offset]) => offset);
        expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
        for (const offset of offsets) expect(offset).toBeLessThanOrEqual([...found.end.text].length);
      }),
      { numRuns: 150, seed: 8 },
    );
  });

  it.each(DECODINGS.filter(({ hasBytes }) => hasBytes))(
    "places each token at the character that its first byte is of: $name",
    ({ tokenizer, idOfByte }) => {
      const inBytes = (text: string): number[] => [...new TextEncoder().encode(text)].map(idOfByte);
      const text = fc.string({ unit: fc.constantFrom("a", "é", "€", "😀", " "), maxLength: 12 });
      fc.assert(
        fc.property(text, (wanted) => {
          const { text: found, offsets } = alignedText(tokenizer, inBytes(`a${wanted}`));
          expect(found).toBe(`a${wanted}`);
          const expected = [...found].flatMap((character, offset) =>
            Array.from(new TextEncoder().encode(character), () => offset),
          );
          expect(offsets).toEqual(expected);
        }),
        { numRuns: 60, seed: 2 },
      );
    },
  );
});

describe("tokenText()", () => {
  it("is a token's text within a text, or its bytes", () => {
    const [, ownBpe, anyBpe, fallback, , metaspace] = DECODINGS.map(({ tokenizer }) => tokenizer);
    const [own, , , , , words] = DECODINGS;
    expect(tokenText(own.tokenizer, own.idOfByte(0xe2))).toEqual({
      text: "\\xe2",
      bytes: [0xe2],
      isText: false,
    });
    expect(completionToken(tokenText(own.tokenizer, own.idOfByte(0xe2)))).toBe("bytes:\\xe2");
    expect(completionToken(tokenText(own.tokenizer, own.idOfByte(0x41)))).toBe("A");
    expect(tokenText(own.tokenizer, bytes.endOfText).text).toBe("<|endoftext|>");
    expect(tokenText(own.tokenizer, own.silent)).toEqual({ text: "", bytes: [], isText: true });
    for (const id of Array(600).keys()) {
      expect(anyBpe.tokenBytes(id)).toEqual(ownBpe.tokenBytes(id));
      expect(new TextDecoder().decode(Uint8Array.from(ownBpe.tokenBytes(id)))).toBe(ownBpe.decode([id]));
    }
    // The space that a text does not begin with.
    expect([tokenText(fallback, 3).text, tokenText(metaspace, 3).text]).toEqual([" the", " the"]);
    expect(tokenText(fallback, words.idOfByte(0xc3)).bytes).toEqual([0xc3]);
    expect(tokenText(metaspace, words.idOfByte(0xc3)).text).toBe("<0xC3>");
  });

  it("shows the bytes that are plain ASCII as they are", () => {
    const tokenizer = { tokenBytes: () => [0x20, 0xf0, 0x0a] };
    expect(completionToken(tokenText(tokenizer, 0))).toBe("bytes: \\xf0\\x0a");
  });
});
