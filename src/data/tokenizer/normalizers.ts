/** What is done to a text before it is cut into words. */
import { type Makers, type Part, children, flag, make, text } from "./part.js";
import { byteCharacters } from "./byte-characters.js";
import { finderOf } from "./splitting.js";
import { normalForm, withoutMarks } from "./unicode.js";

export type Normalizer = (text: string) => string;

/** Character by character: a capital sigma at the end of a word is no exception here. */
const lowercase: Normalizer = (s) => s.replace(/\p{Changes_When_Lowercased}/gu, (c) => c.toLowerCase());
const strip = (left: boolean, right: boolean): Normalizer => {
  const isSpace = /\p{White_Space}/u;
  return (s) => {
    let [from, to] = [0, s.length];
    while (left && from < to && isSpace.test(s[from])) from++;
    while (right && to > from && isSpace.test(s[to - 1])) to--;
    return s.slice(from, to);
  };
};

/** BERT's: controls of Unicode 8 go, white space becomes a space. */
const CONTROL = /[\0\ufffd]|(?![\t\n\r\u0890\u0891\u08e2\u{110cd}\u{13430}-\u{1343f}])[\p{Cc}\p{Cf}\p{Co}]/gu;
const clean: Normalizer = (s) => s.replace(CONTROL, "").replace(/\p{White_Space}/gu, " ");
const HAN =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

const inOrder =
  (all: readonly Normalizer[]): Normalizer =>
  (s) =>
    all.reduce((done, step) => step(done), s);

const MAKERS: Makers<Normalizer> = {
  NFC: () => (s) => normalForm(s, "NFC"),
  NFD: () => (s) => normalForm(s, "NFD"),
  NFKC: () => (s) => normalForm(s, "NFKC"),
  NFKD: () => (s) => normalForm(s, "NFKD"),
  Lowercase: () => lowercase,
  Strip: (part) => strip(flag(part, "strip_left"), flag(part, "strip_right")),
  StripAccents: () => (s) => withoutMarks(s, "M"),
  Prepend(part) {
    const prefix = text(part, "prepend");
    return (s) => (s === "" ? s : prefix + s);
  },
  Replace: (part) => replacer(part),
  ByteLevel: () => byteCharacters,
  BertNormalizer(part) {
    const isLower = flag(part, "lowercase", true);
    const steps: Normalizer[] = [];
    if (flag(part, "clean_text", true)) steps.push(clean);
    if (flag(part, "handle_chinese_chars", true)) steps.push((s) => s.replace(HAN, " $& "));
    if (flag(part, "strip_accents", isLower)) steps.push((s) => withoutMarks(normalForm(s, "NFD"), "Mn"));
    if (isLower) steps.push(lowercase);
    return inOrder(steps);
  },
  Sequence: (part) => inOrder(children(part, "normalizers").map(normalizer)),
};

/** Puts the part's `content` where its `pattern` matches. */
export function replacer(part: Part): Normalizer {
  const find = finderOf(part);
  const content = text(part, "content");
  return (s) => {
    let out = "";
    let at = 0;
    for (const { start, end } of find(s)) {
      out += s.slice(at, start) + content;
      at = end;
    }
    return at === 0 && out === "" ? s : out + s.slice(at);
  };
}

/** @throws InputError naming what is not offered */
export function normalizer(part: Part): Normalizer {
  return make(part, MAKERS);
}
