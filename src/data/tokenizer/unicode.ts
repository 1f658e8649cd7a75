/**
 * Classes of characters as the reference implementation (the `tokenizers` library in Rust) knows them. It knows three editions of
 * Unicode: its patterns the 16th, its normal forms the 9th, all else the one that this file leaves to the running engine.
 */

/** Letters, numbers, marks, punctuation and symbols of Unicode 17: to patterns these code points are not assigned. */
const SINCE_17 = `88f c5c cdc 1acf-1add 1ae0-1aeb 20c1 2b96 a7ce-a7cf a7d2 a7d4 a7f1 fbc3-fbd2 fd90-fd91 fdc8-fdce 10940-10959
10ec5-10ec7 10ed0-10ed8 10efa-10efb 11b60-11b67 11db0-11ddb 11de0-11de9 16ea0-16eb8 16ebb-16ed3 16ff2-16ff6 187f8-187ff
18d09-18d1e 18d80-18df2 1ccfa-1ccfc 1ceba-1ced0 1cee0-1cef0 1e6c0-1e6de 1e6e0-1e6f5 1e6fe-1e6ff 1f6d8 1f777-1f77a 1f8d0-1f8d8
1fa54-1fa57 1fa8a 1fa8e 1fac8 1facd 1faea 1faef 1fbfa 2b73a-2b73f 2cea2-2cead 323b0-33479`;

/** Marks, and characters with a decomposition, that came after Unicode 9: normal forms leave them as they are. */
const SINCE_10 = `7fd 897-89f 8ca-8d3 9fe afa-aff b55 c04 c3c cf3 d00 d3b-d3c d81 eba ece 1715 180f 1abf-1add 1ae0-1aeb 1cf7
1df6-1dfa 32ff a7f1-a7f4 a82c a8ff ab69 105c9 105e4 10781-10785 10787-107b0 107b2-107ba 10d24-10d27 10d69-10d6d 10eab-10eac
10efa-10eff 10f46-10f50 10f82-10f85 11070 11073-11074 110c2 11145-11146 111c9 111ce-111cf 11241 1133b 11383 11385 1138e 11391
113b8-113c0 113c2 113c5 113c7-113ca 113cc-113d0 113d2 113e1-113e2 1145e 1182c-1183a 11930-11935 11937-11938 1193b-1193e 11940
11942-11943 119d1-119d7 119da-119e0 119e4 11a01-11a0a 11a33-11a39 11a3b-11a3e 11a47 11a51-11a5b 11a8a-11a99 11b60-11b67
11d31-11d36 11d3a 11d3c-11d3d 11d3f-11d45 11d47 11d8a-11d8e 11d90-11d91 11d93-11d97 11ef3-11ef6 11f00-11f01 11f03 11f34-11f3a
11f3e-11f42 11f5a 13440 13447-13455 1611e-1612f 16d68-16d6a 16f4f 16f7f-16f87 16fe4 16ff0-16ff1 1ccd6-1ccf9 1cf00-1cf2d
1cf30-1cf46 1e030-1e06d 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5 1f16c
1fbf0-1fbf9`;

/** Of canonical pairs that came after Unicode 9, the characters that begin one and have no decomposition themselves. */
const PAIRS_SINCE_10 = "105d2 105da 11382 11384 1138b 11390 16d63 16d67";

const rangesOf = (text: string): (readonly [first: number, last: number])[] =>
  text.split(/\s+/).map((range) => {
    const [first, last = first] = range.split("-").map((hex) => parseInt(hex, 16));
    return [first, last];
  });

const classText = (text: string): string =>
  rangesOf(text)
    .map(([a, b]) => `\\u{${a.toString(16)}}-\\u{${b.toString(16)}}`)
    .join("");

/** A set of code points. */
export type CodePoints = (codePoint: number) => boolean;

const UNKNOWN = 0;
const OUTSIDE = 1;
const INSIDE = 2;

/** The set, with what was found remembered by code point, in pages as they are needed. */
export function remembered(has: CodePoints): CodePoints {
  const pages: (Uint8Array | undefined)[] = new Array<Uint8Array | undefined>(0x1100).fill(undefined);
  return (codePoint) => {
    const page = (pages[codePoint >> 8] ??= new Uint8Array(256));
    const found = page[codePoint & 255];
    if (found !== UNKNOWN) return found === INSIDE;
    const isInside = has(codePoint);
    page[codePoint & 255] = isInside ? INSIDE : OUTSIDE;
    return isInside;
  };
}

const matching =
  (pattern: RegExp): CodePoints =>
  (codePoint) =>
    pattern.test(String.fromCodePoint(codePoint));
/** A character property as patterns know it. */
const property = (pattern: RegExp): CodePoints => {
  const [isNew, has] = [matching(new RegExp(`[${classText(SINCE_17)}]`, "u")), matching(pattern)];
  return remembered((codePoint) => has(codePoint) && !isNew(codePoint));
};

export const isLetter = property(/\p{L}/u);
export const isNumber = property(/\p{N}/u);
/** U+0085 is one, U+FEFF none: not what JavaScript's `\s` says. */
export const isSpace = remembered(matching(/\p{White_Space}/u));
/** `\w` of patterns; the digits and fractions of Latin-1 are an oddity of theirs. */
export const isWordInPattern = property(/[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u00b2\u00b3\u00b9\u00bc-\u00be]/u);
/** `\w` where the reference implementation does not read a pattern of the file: around added tokens, between words. */
export const isWord = property(/[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u);

const POSIX: Readonly<Record<string, RegExp>> = {
  alnum: /[\p{Alphabetic}\p{Nd}]/u,
  alpha: /\p{Alphabetic}/u,
  ascii: /[\0-\x7f]/u,
  blank: /[\p{Zs}\t]/u,
  cntrl: /[\p{Cc}\p{Cf}\p{Cn}\p{Co}\p{Cs}]/u,
  digit: /\p{Nd}/u,
  lower: /\p{Lowercase}/u,
  punct: /[\p{P}\p{S}]/u,
  space: /\p{White_Space}/u,
  upper: /\p{Uppercase}/u,
  xdigit: /[0-9A-Fa-f]/u,
};
/** Sets that no `\p{…}` changes with the edition. */
const found = new Map<string, CodePoints>();

/** A set by the name in `\p{…}`, or in `[:…:]` of a pattern; undefined: there is none of this name. */
export function propertyNamed(name: string): CodePoints | undefined {
  const known = found.get(name);
  if (known !== undefined) return known;
  const posix = POSIX[name.toLowerCase()];
  for (const source of posix ? [posix.source] : [`\\p{${name}}`, `\\p{Script=${name}}`]) {
    let pattern: RegExp;
    try {
      pattern = new RegExp(source, "u");
    } catch {
      continue;
    }
    const set = property(pattern);
    found.set(name, set);
    return set;
  }
  return undefined;
}

const UNKNOWN_TO_NORMAL_FORMS = classText(`${SINCE_10} ${PAIRS_SINCE_10}`);
const NEW_RUN = new RegExp(`([${UNKNOWN_TO_NORMAL_FORMS}]+)`, "u");
const NEW_MARK = new RegExp(`[${classText(SINCE_10)}]`, "u");

/** A normal form of Unicode 9: what came later neither decomposes nor combines, nor lets marks pass. */
export function normalForm(text: string, form: "NFC" | "NFD" | "NFKC" | "NFKD"): string {
  if (!NEW_RUN.test(text)) return text.normalize(form);
  return text
    .split(NEW_RUN)
    .map((part, i) => (i % 2 === 1 ? part : part.normalize(form)))
    .join("");
}

/** Leaves out combining marks of the general category given: M, or Mn. */
export function withoutMarks(text: string, category: "M" | "Mn"): string {
  return text.replace(category === "M" ? /[\p{M}\u1cf2\u1cf3]/gu : /\p{Mn}/gu, (mark) =>
    NEW_MARK.test(mark) ? mark : "",
  );
}
