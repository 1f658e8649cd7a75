/** Inputs that are almost right: from a right one, by few changes of the kinds that parsers have trouble with. */
import type { Dice } from "./dice.js";

/** How numbers are written that are at the edge of something. */
const NUMBERS =
  "0 -0 1 -1 2 0.5 1e-400 5e-324 1e308 1e309 -1e999 1e999 255 256 65535 65536 65537 2147483647 2147483648 4294967295 4294967296 9007199254740991 9007199254740992 -9007199254740993 18446744073709551615 18446744073709551616 1e21 1e100 0x10 0b1 1_000 00 01 +1 .5 5. 1e 1e+ NaN nan .nan .inf -.inf Infinity -Infinity 123456789012345678901234567890".split(
    " ",
  );

const LONG = 20_000;
const HUGE = 300_000;

/** Strings that are not what they seem. */
const STRINGS: readonly ((dice: Dice) => string)[] = [
  () => "",
  () => " ",
  () => "__proto__",
  () => "constructor",
  () => "toString",
  () => "hasOwnProperty",
  () => "prototype",
  () => "length",
  () => "null",
  () => "a\0b",
  () => "\ud800",
  () => "x\udc00y",
  () => "\u202egnp.exe",
  () => "\u001b[2J\u001b]0;title\u0007",
  () => "line\nline",
  () => "line\r\nline\u2028line\u0085",
  () => "\ufeff",
  () => "/nowhere/at/all",
  () => ".",
  () => "..",
  () => "CON",
  () => "%s%n%x",
  () => "$&$1",
  () => "{{x}}",
  () => "<|endoftext|>",
  () => "🙂".repeat(3),
  () => "e\u0301".repeat(50),
  (dice) => "x".repeat(1 + dice.below(600)),
  (dice) =>
    dice.pick(["a", "é", "🙂", " ", "\n", "0", "\\", '"', "(", "-"]).repeat(dice.chance(0.05) ? LONG : 700),
  (dice) => dice.pick(NUMBERS),
];

/** Values as a JSON or YAML reader would return them. */
const VALUES: readonly ((dice: Dice) => unknown)[] = [
  () => null,
  () => true,
  () => false,
  () => [],
  () => ({}),
  () => [[]],
  () => [null],
  () => ({ "": 1 }),
  () => 0,
  () => -1,
  () => 0.5,
  () => 1,
  () => 2,
  () => 3,
  () => 1e308,
  () => -1e308,
  () => 5e-324,
  () => 2 ** 31,
  () => 2 ** 32,
  () => 2 ** 53,
  () => -(2 ** 53),
  () => 2 ** 53 - 1,
  (dice) => string(dice),
  (dice) => [string(dice)],
  (dice) => ({ [string(dice)]: string(dice) }),
  (dice) => Array.from({ length: 1 + dice.below(40) }, () => dice.below(9)),
  (dice) => Object.fromEntries(Array.from({ length: 1 + dice.below(40) }, (_, i) => [`k${i}`, i])),
];

export function number(dice: Dice): string {
  return dice.pick(NUMBERS);
}

export function string(dice: Dice): string {
  return dice.pick(STRINGS)(dice);
}

export function value(dice: Dice): unknown {
  return dice.pick(VALUES)(dice);
}

type Bag = Record<string, unknown>;
const isBag = (x: unknown): x is Bag => typeof x === "object" && x !== null;

/** A copy with one place in it changed: replaced, left out, renamed, doubled, exchanged, wrapped. */
export function changeTree(dice: Dice, tree: unknown): unknown {
  const copy = structuredClone(tree);
  const places: { readonly of: Bag; readonly key: string }[] = [];
  const visit = (node: unknown): void => {
    if (!isBag(node)) return;
    for (const key of Object.keys(node)) {
      places.push({ of: node, key });
      visit(node[key]);
    }
  };
  visit(copy);
  if (places.length === 0 || dice.chance(0.02)) return value(dice);
  const { of, key } = dice.pick(places);
  const set = (name: string, content: unknown): void => {
    Object.defineProperty(of, name, { value: content, enumerable: true, writable: true, configurable: true });
  };
  const old = of[key];
  switch (dice.below(8)) {
    case 0:
      delete of[key];
      break;
    case 1:
      delete of[key];
      set(Array.isArray(of) ? key : string(dice), old);
      break;
    case 2:
      if (Array.isArray(of)) of.push(old, value(dice));
      else set(string(dice), value(dice));
      break;
    case 3:
      set(key, [old]);
      break;
    case 4:
      set(key, structuredClone(dice.pick(places.map((place) => place.of[place.key]))));
      break;
    case 5:
      set(
        key,
        typeof old === "number"
          ? old * dice.pick([-1, 0.5, 2, 10, 1e6, 1e300]) + dice.pick([0, 1, -1])
          : JSON.stringify(old),
      );
      break;
    default:
      set(key, value(dice));
  }
  return copy;
}

/** Text of a tree as JSON, now and then with what only text can have: deep nesting, repeated keys, odd numbers. */
export function jsonText(dice: Dice, tree: unknown): string {
  const text = JSON.stringify(tree, undefined, dice.chance(0.3) ? 2 : undefined) ?? "null";
  return dice.chance(0.5) ? text : changeText(dice, text, JSON_SCRAPS);
}

/** What is put into texts of a format. */
type Scraps = readonly ((dice: Dice) => string)[];

const nested =
  (open: string, close: string, core: string) =>
  (dice: Dice): string => {
    const depth = dice.pick([
      20,
      99,
      101,
      300,
      dice.chance(0.1) ? 5_000 : 40,
      dice.chance(0.01) ? 100_000 : 50,
    ]);
    return open.repeat(depth) + core + (dice.chance(0.8) ? close.repeat(depth) : "");
  };

const JSON_SCRAPS: Scraps = [
  nested("[", "]", "1"),
  nested('{"a":', "}", "1"),
  (dice) => JSON.stringify(string(dice)),
  () => '"\\ud800"',
  () => '{"__proto__":{"polluted":1}}',
  () => ",",
  () => "}",
  () => "[",
  () => "//x",
  number,
];

export const YAML_SCRAPS: Scraps = [
  ...JSON_SCRAPS,
  nested("- ", "", "x"),
  nested("? ", "", "x"),
  () =>
    "\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
  () => "\na: &a { b: *a }\n",
  () => "\n<<: [1, *x]\n",
  () => "\n? [complex, key]\n: value\n",
  () => "!!binary |\n  AAAA",
  () => "!!timestamp 2001-12-14",
  () => "!!set {a, b}",
  () => "!unknown tag",
  () => "%YAML 9.9\n---\n",
  () => "\n---\n",
  () => "\n...\n",
  () => "|+9\n x",
  () => "\t",
  () => "#",
  () => ": ",
  () => "*x",
  () => "&x ",
  () => "'",
];

/** A few changes of a text: characters, pieces, numbers and scraps of its format. */
export function changeText(dice: Dice, text: string, scraps: Scraps = JSON_SCRAPS): string {
  let out = text;
  for (let n = 1 + dice.below(3); n > 0; n--) {
    const at = dice.below(out.length + 1);
    const length = dice.chance(0.7) ? 1 + dice.below(8) : dice.below(out.length - at + 1);
    const [before, piece, after] = [out.slice(0, at), out.slice(at, at + length), out.slice(at + length)];
    switch (dice.below(9)) {
      case 0:
        out = before + after;
        break;
      case 1:
        out = before + piece + piece + after;
        break;
      case 2:
        out = before + dice.pick(scraps)(dice) + piece + after;
        break;
      case 3:
        out = before + dice.pick(scraps)(dice) + after;
        break;
      case 4:
        out = before + string(dice) + piece + after;
        break;
      case 5:
        out = before + String.fromCharCode(dice.chance(0.8) ? dice.below(256) : dice.below(65_536)) + after;
        break;
      case 6:
        out = changeNumber(dice, out);
        break;
      case 7:
        out = dice.chance(0.2) ? before : before + after + piece;
        break;
      default:
        if (out.length < LONG || dice.chance(0.02))
          out =
            before + piece.repeat(Math.floor((dice.chance(0.002) ? HUGE : 600) / (piece.length + 1))) + after;
    }
  }
  return out;
}

function changeNumber(dice: Dice, text: string): string {
  const places = [...text.matchAll(/-?\d+(?:\.\d+)?/g)].slice(0, 200);
  if (places.length === 0) return text + number(dice);
  const { index, 0: found } = dice.pick(places);
  return text.slice(0, index) + number(dice) + text.slice(index + found.length);
}

/** A few changes of bytes: flipped, overwritten with numbers at an edge, cut, doubled, put in, exchanged with another's. */
export function changeBytes(dice: Dice, bytes: Uint8Array, other: Uint8Array = bytes): Uint8Array {
  let out: Uint8Array = Uint8Array.from(bytes);
  for (let n = 1 + dice.below(4); n > 0 && out.length > 0; n--) {
    // Headers are at the beginning.
    const at = dice.below(dice.chance(0.5) ? Math.min(64, out.length) : out.length);
    const length = Math.min(out.length - at, dice.chance(0.7) ? 1 + dice.below(16) : dice.below(out.length));
    switch (dice.below(7)) {
      case 0:
        out[at] ^= 1 << dice.below(8);
        break;
      case 1:
        out[at] = dice.pick([0, 1, 0x7f, 0x80, 0xff, dice.below(256)]);
        break;
      case 2:
        out.set(dice.pick(EDGES).subarray(0, out.length - at), at);
        break;
      case 3:
        out = out.slice(0, at);
        break;
      case 4:
        out = joined(out.subarray(0, at + length), out.subarray(at));
        break;
      case 5:
        out = joined(
          out.subarray(0, at),
          dice.bytes(1 + dice.below(24)),
          out.subarray(at + dice.below(2) * length),
        );
        break;
      default:
        out = joined(out.subarray(0, at), other.subarray(dice.below(other.length)));
    }
  }
  return out;
}

/** Little-endian integers of 2, 4 and 8 bytes. */
const EDGES: readonly Uint8Array[] = [
  0n,
  1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
].flatMap((x) => {
  const whole = new Uint8Array(new BigUint64Array([x]).buffer);
  return [whole.subarray(0, 2), whole.subarray(0, 4), whole];
});

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
