/** Text files as characters: in a known encoding and without damage, or not at all. */
import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";
import { InputError, didYouMean } from "../core/errors.js";
import { explain } from "../storage/files.js";

export const DEFAULT_ENCODING = "utf-8";

/** Of the names that the Encoding Standard knows, those that texts are kept in; its "latin1" is windows-1252. */
const COMMON = [
  ...["utf-8", "latin1", "utf-16le", "utf-16be", "windows-1252", "iso-8859-2", "iso-8859-15", "windows-1251"],
  ...["koi8-r", "shift_jis", "euc-jp", "gb18030", "gbk", "big5", "euc-kr"],
];

/** @param where the option or key, for the message @throws InputError with a suggestion when Node knows no such encoding */
export function checkEncoding(name: string, where: string): void {
  try {
    new TextDecoder(name);
  } catch {
    const near = didYouMean(name.toLowerCase(), COMMON);
    throw new InputError(
      `${where}: unknown encoding "${name}"${near ? `; did you mean "${near}"?` : ""} (known: ${COMMON.join(", ")} and others of the WHATWG Encoding Standard)`,
    );
  }
}

/**
 * A file's text; a byte-order mark at its start is dropped.
 * @param encoding by its name in the WHATWG Encoding Standard
 * @throws InputError in one line when the file cannot be read, or names the first byte that is no text in this encoding
 */
export function readEncoded(path: string, encoding: string = DEFAULT_ENCODING): string {
  try {
    const bytes = readFileSync(path);
    const text = decode(bytes, encoding);
    if (text !== undefined) return text;
    throw new InputError(complaint(path, bytes, encoding));
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`Cannot read the corpus ${path}: ${explain(error)}`);
  }
}

/** Undefined: the bytes are not in this encoding. */
function decode(bytes: Buffer, encoding: string): string | undefined {
  const decoder = new TextDecoder(encoding, { fatal: true });
  // Faster and in less memory than the decoder.
  if (decoder.encoding === "utf-8") {
    if (!isUtf8(bytes)) return undefined;
    const hasMark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
    return bytes.toString("utf8", hasMark ? 3 : 0);
  }
  try {
    return decoder.decode(bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_ENCODING_INVALID_ENCODED_DATA") return undefined;
    throw error;
  }
}

/** Bytes of the longest character in any encoding. */
const LONGEST_CHARACTER = 4;

function complaint(path: string, bytes: Buffer, encoding: string): string {
  const at = firstBadByte(bytes, encoding);
  const byte = `byte 0x${bytes[at].toString(16).padStart(2, "0")} at offset ${at}`;
  const cut = isCut(bytes.subarray(at), encoding) ? ", where the file ends within a character" : "";
  return `${path} is not ${encoding} text: ${byte}${cut}; ${advice(bytes, encoding)}`;
}

/** Whether more bytes could make it text. */
function isCut(rest: Buffer, encoding: string): boolean {
  if (rest.length >= LONGEST_CHARACTER) return false;
  try {
    new TextDecoder(encoding, { fatal: true }).decode(rest, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/** What the file may be instead. */
function advice(bytes: Buffer, encoding: string): string {
  const mark = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-16be";
  const isMarked = mark === "utf-16le" || (bytes[0] === 0xfe && bytes[1] === 0xff);
  if (isMarked && encoding !== mark)
    return `it begins like ${mark}: set the encoding (data.encoding, --encoding) to ${mark}`;
  if (encoding !== DEFAULT_ENCODING && isUtf8(bytes))
    return `it is ${DEFAULT_ENCODING}: set the encoding (data.encoding, --encoding) to that`;
  return `repair the file, or name its encoding (data.encoding, --encoding), such as latin1 or utf-16le`;
}

/** Where the longest beginning that is text ends, by bisection: a beginning may cut one character. */
function firstBadByte(bytes: Buffer, encoding: string): number {
  const isText = (length: number): boolean => decode(bytes.subarray(0, length), encoding) !== undefined;
  const lastText = (length: number): number | undefined => {
    for (let at = length; at >= 0 && at > length - LONGEST_CHARACTER; at--) if (isText(at)) return at;
    return undefined;
  };
  let [good, bad] = [0, bytes.length];
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (lastText(middle) === undefined) bad = middle;
    else good = middle;
  }
  return lastText(good) ?? 0;
}
