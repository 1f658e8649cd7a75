import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { type Holder, isGone, lockDirectory } from "./directory-lock.js";

const parent = mkdtempSync(join(tmpdir(), "scmoe-lock-"));
let count = 0;
const fresh = (): string => join(parent, `run-${count++}`, "inner");
const holderOf = (directory: string): Holder =>
  JSON.parse(readFileSync(join(directory, "lock.json"), "utf8")) as Holder;
const holdBy = (directory: string, holder: Holder): void =>
  writeFileSync(join(directory, "lock.json"), JSON.stringify(holder));

it("one holder at a time; nothing is left of a directory made for it", () => {
  const directory = fresh();
  const lock = lockDirectory(directory);
  expect(() => lockDirectory(directory)).toThrow(InputError);
  expect(() => lockDirectory(directory)).toThrow(new RegExp(`process ${process.pid} on `));
  expect(readdirSync(directory)).toEqual(["lock.json"]);
  lock.release();
  lock.release();
  expect(existsSync(join(directory, ".."))).toBe(false);
});

it("a directory with something in it stays", () => {
  const directory = fresh();
  const lock = lockDirectory(directory);
  writeFileSync(join(directory, "run.json"), "{}");
  lock.release();
  expect(readdirSync(directory)).toEqual(["run.json"]);
});

it("a lock of a process that has ended, or whose number another has, is taken over", () => {
  const directory = fresh();
  lockDirectory(directory);
  const mine = holderOf(directory);
  const { pid } = spawnSync("true");
  for (const holder of [
    { ...mine, pid },
    { ...mine, processStart: "1" },
  ]) {
    holdBy(directory, { ...holder, token: "theirs" });
    const lock = lockDirectory(directory);
    expect(holderOf(directory).token).not.toBe("theirs");
    lock.release();
  }
  expect(readdirSync(directory)).toEqual([]);
});

it("a lock of a machine that cannot be seen holds as long as it gives signs of life", () => {
  const directory = fresh();
  lockDirectory(directory);
  const theirs = { ...holderOf(directory), machine: "elsewhere", host: "b", pid: 1, token: "theirs" };
  holdBy(directory, theirs);
  expect(() => lockDirectory(directory)).toThrow(/process 1 on b /);
  expect(holderOf(directory).token).toBe("theirs");
  const longAgo = Date.now() / 1e3 - 3600;
  utimesSync(join(directory, "lock.json"), longAgo, longAgo);
  lockDirectory(directory).release();
});

it("a damaged lock is nobody's", () => {
  const directory = fresh();
  lockDirectory(directory);
  writeFileSync(join(directory, "lock.json"), '{"pid":');
  lockDirectory(directory).release();
});

it("this process is not gone", () => {
  const directory = fresh();
  const lock = lockDirectory(directory);
  expect(isGone(holderOf(directory), { silenceMs: Infinity })).toBe(false);
  lock.release();
});
