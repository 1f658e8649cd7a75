/** Where a command's prompt comes from: an argument, a file, or the standard input. */
import { isUtf8 } from "node:buffer";
import { readFileSync } from "node:fs";
import { launcherSize } from "../comm/mpi/library.js";
import { InputError } from "../core/errors.js";
import { reading } from "../storage/files.js";

export interface PromptFlags {
  /** As an argument; "-": the standard input. */
  readonly text?: string | undefined;
  readonly prompt?: string | undefined;
  /** "-": the standard input. */
  readonly promptFile?: string | undefined;
  readonly ids?: readonly number[] | undefined;
}

/**
 * Text or token ids; where nothing is said, what the standard input has unless it is a terminal, and an empty text there. The last
 * line break of a file or of the standard input is not part of it.
 * @throws InputError when two are given, or a file cannot be read or is not UTF-8
 */
export async function readPrompt(flags: PromptFlags): Promise<string | readonly number[]> {
  const { text, prompt, promptFile, ids } = flags;
  const said = [text, prompt, promptFile, ids].filter((source) => source !== undefined).length;
  if (said > 1)
    throw new InputError(
      "generate goes on from one prompt: an argument, --prompt, --prompt-file or --ids; found more than one",
    );
  if (ids !== undefined) return ids;
  if (prompt !== undefined) return prompt;
  if (promptFile !== undefined) return withoutBreak(await readInput(promptFile, "the prompt"));
  if (text !== undefined && text !== "-") return text;
  const isThere = process.stdin.isTTY !== true && launcherSize() === undefined;
  return text === "-" || isThere ? withoutBreak(await readInput("-", "the prompt")) : "";
}

/**
 * A text file, or the standard input where its path is "-".
 * @throws InputError when it cannot be read, or is not UTF-8
 */
export async function readInput(path: string, what: string): Promise<string> {
  const bytes = path === "-" ? await readStdin(what) : reading(path, () => readFileSync(path), what);
  if (!isUtf8(bytes)) throw new InputError(`${inputName(path)} is not UTF-8; wanted ${what} as UTF-8 text`);
  return bytes.toString("utf8");
}

/** As messages have it. */
export function inputName(path: string): string {
  return path === "-" ? "standard input" : path;
}

async function readStdin(what: string): Promise<Buffer> {
  // A launcher gives it to one process only.
  if (launcherSize() !== undefined)
    throw new InputError(`Processes of a launcher do not share the standard input; give ${what} as a file`);
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

const withoutBreak = (text: string): string => text.replace(/\r?\n$/, "");
