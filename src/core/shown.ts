/** Text for people's messages: of bounded length and on one line, whatever of an input it quotes. */

/** A message says what, where, found, wanted and what to do; what is longer quotes an input that nobody would read. */
const LONGEST_LINE = 500;
const LONGEST_STRING = 60;
const MOST_ITEMS = 8;
const DEEPEST = 3;

/** Line ends, what moves a terminal's cursor or turns its writing round, and halves of characters. */
const UNSHOWABLE =
  /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const NAMED: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Of a long text its beginning and, as that is where the advice stands, its end; nothing in it ends the line. */
export function oneLine(text: string): string {
  return shortened(shortened(text).replace(UNSHOWABLE, escaped));
}

function escaped(character: string): string {
  return NAMED[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function shortened(text: string): string {
  if (text.length <= LONGEST_LINE) return text;
  const end = Math.floor(LONGEST_LINE / 3);
  return `${text.slice(0, LONGEST_LINE - end - 3)} … ${text.slice(-end)}`;
}

/** A value read from an input, as JSON would show it, but only so much that people recognise it. */
export function shown(value: unknown, depth = 0): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return JSON.stringify(shortName(value));
  if (value === null || typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value !== "object") return typeof value;
  const isList = Array.isArray(value);
  const [open, close] = isList ? "[]" : "{}";
  // Only keys are listed before it is known how many of them are shown.
  const keys = isList ? value.slice(0, MOST_ITEMS).map((_, i) => i) : Object.keys(value);
  const count = isList ? value.length : keys.length;
  if (depth === DEEPEST && count > 0) return `${open}…${close}`;
  const items = keys.slice(0, MOST_ITEMS).map((key) => {
    const text = shown((value as Record<PropertyKey, unknown>)[key], depth + 1);
    return isList ? text : `${JSON.stringify(shortName(String(key)))}:${text}`;
  });
  return `${open}${items.join(",")}${count > MOST_ITEMS ? ",…" : ""}${close}`;
}

function shortName(text: string): string {
  return text.length > LONGEST_STRING ? `${text.slice(0, LONGEST_STRING)}…` : text;
}
