/**
 * Tokens on disk: a 64-byte header, then u16 or u32 ids. Read in windows by position, never whole: a window of 1,025 tokens
 * takes a few microseconds from the page cache, which is the memory that a mapping would show, so a mapping (native code in Node)
 * would gain nothing.
 */
import { fstatSync, fsyncSync, openSync, renameSync } from "node:fs";
import { InputError } from "../core/errors.js";
import {
  closeRead,
  explain,
  readAt,
  reading,
  withFile,
  writeAll,
  writeDurably,
  writing,
} from "../storage/files.js";

const MAGIC = "scmoetok";
const HEADER_BYTES = 64;
const VERSION = 1;

/**
 * Written to a temporary name, synced, renamed. One piece at a time is in memory.
 * @returns the number of tokens
 * @throws EnvironmentError in one line when the disk is full or not writable
 */
export function writeTokenFile(path: string, pieces: Iterable<ArrayLike<number>>, vocabSize: number): number {
  const width = vocabSize > 65_536 ? 4 : 2;
  const temporary = `${path}.tmp`;
  let length = 0;
  writeDurably(
    temporary,
    (function* () {
      yield new Uint8Array(HEADER_BYTES);
      for (const ids of pieces) {
        length += ids.length;
        yield new Uint8Array((width === 4 ? Uint32Array.from(ids) : Uint16Array.from(ids)).buffer);
      }
    })(),
  );
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  new TextEncoder().encodeInto(MAGIC, new Uint8Array(header.buffer));
  header.setUint32(8, VERSION, true);
  header.setUint32(12, width, true);
  header.setUint32(16, vocabSize, true);
  header.setBigUint64(24, BigInt(length), true);
  writing(path, () => {
    withFile(temporary, "r+", (file) => {
      writeAll(file, new Uint8Array(header.buffer));
      fsyncSync(file);
    });
    renameSync(temporary, path);
  });
  return length;
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
      throw new InputError(`Cannot open the token file ${path}: ${explain(error)}`);
    }
    try {
      return new TokenFile(path, file, ...readHeader(path, file));
    } catch (error) {
      closeRead(file);
      throw error;
    }
  }

  /** Tokens [start, start + out.length). @throws InputError when the file ends early or holds no token of the vocabulary */
  read(start: number, out: Int32Array): void {
    const length = out.length * this.width;
    const bytes = reading(this.path, () => readAt(this.file, HEADER_BYTES + start * this.width, length));
    out.set(this.width === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer));
    if (bytes.length < length || out.some((id) => id < 0 || id >= this.vocabSize))
      throw new InputError(
        `${this.path} is damaged near token ${start}; delete its directory, it will be made again`,
      );
  }

  close(): void {
    closeRead(this.file);
  }
}

/** @returns length, size of the vocabulary, bytes per token */
function readHeader(path: string, file: number): [length: number, vocabSize: number, width: number] {
  const bytes = reading(path, () => readAt(file, 0, HEADER_BYTES));
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  new Uint8Array(header.buffer).set(bytes);
  const magic = new TextDecoder().decode(new Uint8Array(header.buffer, 0, 8));
  if (bytes.length < HEADER_BYTES || magic !== MAGIC || header.getUint32(8, true) !== VERSION)
    throw new InputError(`${path} is not a token file of version ${VERSION}; make it again with: scmoe data`);
  const width = header.getUint32(12, true);
  if (width !== 2 && width !== 4)
    throw new InputError(
      `${path} is damaged: tokens of ${width} bytes, wanted 2 or 4; make it again with: scmoe data`,
    );
  const length = Number(header.getBigUint64(24, true));
  const { size } = reading(path, () => fstatSync(file));
  if (size !== HEADER_BYTES + length * width)
    throw new InputError(
      `${path} has ${size} bytes, its header says ${HEADER_BYTES + length * width}; make it again with: scmoe data`,
    );
  return [length, header.getUint32(16, true), width];
}
