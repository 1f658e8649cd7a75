/** Tokens on disk: a 64-byte header, then u16 or u32 ids. Read in windows, never whole. */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, writeSync } from "node:fs";
import { InputError } from "../core/errors.js";

const MAGIC = "scmoetok";
const HEADER_BYTES = 64;
const VERSION = 1;

/** Written to a temporary name, synced, renamed. */
export function writeTokenFile(path: string, tokens: Uint32Array | Uint16Array, vocabSize: number): void {
  const width = vocabSize > 65_536 ? 4 : 2;
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  new TextEncoder().encodeInto(MAGIC, new Uint8Array(header.buffer));
  header.setUint32(8, VERSION, true);
  header.setUint32(12, width, true);
  header.setUint32(16, vocabSize, true);
  header.setBigUint64(24, BigInt(tokens.length), true);
  const ids = width === 4 ? Uint32Array.from(tokens) : Uint16Array.from(tokens);
  const temporary = `${path}.tmp`;
  const file = openSync(temporary, "w");
  try {
    writeSync(file, new Uint8Array(header.buffer));
    const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength);
    for (let at = 0; at < bytes.length;)
      at += writeSync(file, bytes, at, Math.min(1 << 26, bytes.length - at));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
}

export class TokenFile {
  private constructor(
    readonly path: string,
    readonly file: number,
    readonly length: number,
    readonly vocabSize: number,
    readonly width: number,
  ) {}

  /** @throws InputError when the file is missing, truncated or of another kind */
  static open(path: string): TokenFile {
    let file: number;
    try {
      file = openSync(path, "r");
    } catch (error) {
      throw new InputError(
        `Cannot open the token file ${path}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`,
      );
    }
    const header = new DataView(new ArrayBuffer(HEADER_BYTES));
    const got = readSync(file, header, 0, HEADER_BYTES, 0);
    const magic = new TextDecoder().decode(new Uint8Array(header.buffer, 0, 8));
    if (got < HEADER_BYTES || magic !== MAGIC || header.getUint32(8, true) !== VERSION)
      throw new InputError(
        `${path} is not a token file of version ${VERSION}; make it again with: scmoe data`,
      );
    const width = header.getUint32(12, true);
    const length = Number(header.getBigUint64(24, true));
    const { size } = fstatSync(file);
    if (size !== HEADER_BYTES + length * width)
      throw new InputError(
        `${path} has ${size} bytes, its header says ${HEADER_BYTES + length * width}; make it again with: scmoe data`,
      );
    return new TokenFile(path, file, length, header.getUint32(16, true), width);
  }

  /** Tokens [start, start + out.length). */
  read(start: number, out: Int32Array): void {
    const bytes = new Uint8Array(out.length * this.width);
    readSync(this.file, bytes, 0, bytes.length, HEADER_BYTES + start * this.width);
    out.set(this.width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer));
  }

  close(): void {
    closeSync(this.file);
  }
}
