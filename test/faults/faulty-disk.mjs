/**
 * A disk that fails: makes one operation of this thread on the files of a directory fail as a disk would, or kills the process
 * there. Nothing in the product knows of it: the methods of `node:fs` are replaced. Threads and processes of their own get it
 * by `node --import`, with the plan in the environment variable IO_FAULT.
 */
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { resolve, sep } from "node:path";
import process from "node:process";
import { isMainThread, workerData } from "node:worker_threads";

/**
 * @typedef {"EIO" | "ENOSPC" | "short" | "kill" | "kill half" | "kill after"} Mode
 *   EIO: this operation fails, once. ENOSPC: so does every later one that needs room. short: half of a write is written and
 *   said to be, then there is no room. kill: the process dies before the operation, half through it, or after it.
 * @typedef {{ root: string, at: number, mode: Mode, rank?: number | "main", log?: string }} Plan
 *   at: which operation, counted from 1; 0: none, they are only counted
 * @typedef {{ name: string, path: string, modes: Mode[] }} Operation  modes: what can happen to it
 */

const real = { ...fs };
/** @type {Plan | undefined} */
let plan;
/** @type {Operation[]} */
let operations = [];
let isFull = false;
/** Some methods of `node:fs` call others. */
let isInside = false;
/** Paths of open files, by descriptor. */
const paths = new Map();

/** @type {Mode[]} */
const READS = ["EIO"];
/** @type {Mode[]} */
const CHANGES = ["EIO", "ENOSPC", "kill"];
/** @type {Record<string, Mode[]>} */
const MODES = {
  writeSync: [...CHANGES, "short", "kill half"],
  // To be killed before or after it is the same, as long as the machine runs on.
  fsyncSync: ["EIO", "ENOSPC"],
  renameSync: CHANGES,
  mkdirSync: CHANGES,
  mkdtempSync: CHANGES,
  rmSync: ["EIO", "kill", "kill half"],
};
const NEEDS_ROOM = new Set(["openSync", "writeSync", "mkdirSync", "mkdtempSync"]);

/** @param {Plan} to @returns {void} */
export function breakDisk(to) {
  plan = { ...to, root: resolve(to.root) + sep };
  operations = [];
  isFull = false;
}

/** Ends what `breakDisk` began; closes what is still open. @returns {Operation[]} what was done under the plan */
export function mendDisk() {
  plan = undefined;
  for (const file of paths.keys()) real.closeSync(file);
  paths.clear();
  return operations;
}

/** @param {string} name @param {string} code @param {string | undefined} path */
function failure(name, code, path) {
  const syscall = name.replace(/Sync$/, "");
  const message = `${code}: injected, ${syscall}${path === undefined ? "" : ` '${path}'`}`;
  return Object.assign(new Error(message), { code, syscall, errno: -5, path });
}

/** @returns {never} */
function die() {
  process.kill(process.pid, "SIGKILL");
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

/**
 * @param {string} name of the method
 * @param {string | undefined} path what it is about
 * @param {string | undefined} said the path that the error names: descriptors have none
 * @param {(() => void) | undefined} half does half of it
 * @param {() => any} whole
 */
function operate(name, path, said, half, whole) {
  if (isInside) return whole();
  isInside = true;
  try {
    return decide(name, path, said, half, whole);
  } finally {
    isInside = false;
  }
}

/** @type {typeof operate} */
function decide(name, path, said, half, whole) {
  const at = typeof path === "string" ? resolve(path) : undefined;
  if (plan === undefined || at === undefined || !at.startsWith(plan.root)) return whole();
  const modes = name === "openSync to write" ? CHANGES : (MODES[name] ?? READS);
  operations.push({ name, path: at.slice(plan.root.length), modes });
  const method = name.split(" ")[0];
  if (isFull && NEEDS_ROOM.has(method)) throw failure(method, "ENOSPC", said);
  if (operations.length !== plan.at) return whole();
  switch (plan.mode) {
    case "EIO":
      if (name === "existsSync") return false;
      // A file is closed even where closing fails.
      if (name === "closeSync") whole();
      else half?.();
      throw failure(method, "EIO", said);
    case "ENOSPC":
      isFull = true;
      throw failure(method, "ENOSPC", said);
    case "short":
      isFull = true;
      return half?.();
    case "kill":
      return die();
    case "kill half":
      half?.();
      return die();
    case "kill after":
      whole();
      return die();
  }
}

/** @param {string} path removes half of what is in it, if it is a directory */
function removeHalf(path) {
  if (!real.existsSync(path) || !real.statSync(path).isDirectory()) return;
  const names = real.readdirSync(path);
  for (const name of names.slice(0, names.length / 2))
    real.rmSync(`${path}/${name}`, { recursive: true, force: true });
}

for (const name of [
  "existsSync",
  "statSync",
  "readdirSync",
  "readFileSync",
  "mkdirSync",
  "statfsSync",
  "renameSync",
  "mkdtempSync",
])
  fs[name] = (path, ...rest) => operate(name, path, path, undefined, () => real[name](path, ...rest));
fs.rmSync = (path, ...rest) =>
  operate(
    "rmSync",
    path,
    path,
    () => removeHalf(path),
    () => real.rmSync(path, ...rest),
  );
fs.openSync = (path, flags = "r", ...rest) => {
  const name = flags === "r" ? "openSync" : "openSync to write";
  const file = operate(name, path, path, undefined, () => real.openSync(path, flags, ...rest));
  if (plan !== undefined) paths.set(file, path);
  return file;
};
for (const name of ["fsyncSync", "fstatSync", "readSync"])
  fs[name] = (file, ...rest) =>
    operate(name, paths.get(file), undefined, undefined, () => real[name](file, ...rest));
fs.closeSync = (file) => {
  const path = paths.get(file);
  paths.delete(file);
  return operate("closeSync", path, undefined, undefined, () => real.closeSync(file));
};
fs.writeSync = (file, bytes, ...rest) =>
  operate(
    "writeSync",
    paths.get(file),
    undefined,
    () => real.writeSync(file, bytes, 0, bytes.byteLength >> 1, rest[2] ?? null),
    () => real.writeSync(file, bytes, ...rest),
  );
syncBuiltinESMExports();

const given = process.env.IO_FAULT;
if (given !== undefined) {
  /** @type {Plan} */
  const ours = JSON.parse(given);
  if ((isMainThread ? "main" : workerData?.rank) === ours.rank) {
    breakDisk(ours);
    const { log } = ours;
    if (log !== undefined) process.on("exit", () => real.writeFileSync(log, JSON.stringify(operations)));
  }
}
