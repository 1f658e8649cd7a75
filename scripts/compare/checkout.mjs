// A built checkout, spoken to by its command line alone: what is inside may differ from one to the next.
import { execFile } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

/** A mistake on the command line of a script: exit 2. */
export class UsageError extends Error {}

/** @param {string} path @returns {{ path: string, main: string, stamp: number }} `stamp` changes with every build */
export function openCheckout(path) {
  const dist = join(resolve(path), "dist");
  const main = join(dist, "cli", "main.js");
  if (!existsSync(main)) throw new UsageError(`${path} is not built: ${main} is missing; run: npm run build`);
  const stamps = readdirSync(dist, { recursive: true }).map((file) => statSync(join(dist, file)).mtimeMs);
  return { path: resolve(path), main, stamp: Math.max(...stamps) };
}

/**
 * @returns what it printed on stdout
 * @throws Error with its last line on stderr when it failed or took longer than `timeout` ms
 */
export function scmoe(checkout, args, { cwd, timeout }) {
  return new Promise((done, fail) => {
    const options = { cwd, timeout, killSignal: "SIGKILL", maxBuffer: 1 << 28 };
    execFile(process.execPath, [checkout.main, ...args], options, (error, stdout, stderr) => {
      if (error === null) return done(stdout);
      const ended = error.killed ? `killed after ${timeout / 1e3} s` : `exit ${error.code ?? error.signal}`;
      fail(new Error(`${ended}: ${stderr.trim().split("\n").at(-1) || "nothing on stderr"}`));
    });
  });
}

/** Positive whole numbers of a list such as "1,2,4". */
export function wholeNumbers(option, text) {
  return list(text).map((word) => {
    if (!/^[1-9]\d*$/.test(word)) throw new UsageError(`--${option} takes whole numbers; found "${word}"`);
    return Number(word);
  });
}

export function list(text) {
  return text.split(",").flatMap((word) => (word.trim() === "" ? [] : [word.trim()]));
}

/** Runs a script's body; mistakes on its command line, unknown options among them, end it with one line. */
export async function runScript(usage, body) {
  try {
    process.exitCode = await body();
  } catch (error) {
    const isUsage = error instanceof UsageError || String(error.code).startsWith("ERR_PARSE_ARGS");
    process.stderr.write(isUsage ? `${error.message}\n${usage}\n` : `${error.stack}\n`);
    process.exitCode = isUsage ? 2 : 1;
  }
}
