import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { expect, it } from "vitest";
import { makeWorkDirectory, removeAbandoned } from "./work-directory.js";

const HASH = "0123456789abcdef";

it("a work directory goes when its maker has: at once where that can be seen, else after a day", () => {
  const parent = mkdtempSync(join(tmpdir(), "scmoe-work-"));
  const mine = basename(makeWorkDirectory(join(parent, HASH)));
  expect(mine).toMatch(/^0123456789abcdef\.tmp-[0-9a-f]{8}_\d+_\d*_\w{6}$/);
  const [before, , , random] = mine.split("_");
  const { pid } = spawnSync("true");
  const ended = `${before}_${pid}_1_${random}`;
  const reused = `${before}_${process.pid}_1_${random}`;
  const elsewhere = `${HASH}.tmp-deadbeef_${pid}_1_${random}`;
  const [old, earlier] = [`${HASH}.tmp-deadbeef_1_1_${random}`, `${HASH}.tmp-abcdef`];
  for (const name of [ended, reused, elsewhere, old, earlier, "notes.tmp-of_me"]) {
    mkdirSync(join(parent, name));
    writeFileSync(join(parent, name, "train.tokens"), "");
  }
  const longAgo = Date.now() / 1e3 - 25 * 3600;
  for (const name of [old, mine, "notes.tmp-of_me"]) utimesSync(join(parent, name), longAgo, longAgo);
  for (const name of [HASH]) mkdirSync(join(parent, name));
  removeAbandoned(parent);
  expect(readdirSync(parent).sort()).toEqual([HASH, mine, earlier, elsewhere, "notes.tmp-of_me"].sort());
});

it("work directories of one name are told from those of others", () => {
  const parent = mkdtempSync(join(tmpdir(), "scmoe-work-"));
  const mark = basename(makeWorkDirectory(join(parent, "out")))
    .slice("out".length)
    .split("_")[0];
  const { pid } = spawnSync("true");
  const left = (name: string): string => `${name}${mark}_${pid}_1_abcdef`;
  for (const name of [left("out"), left("out2"), left("my-out"), "out.tmp", "out.tmp-abcdef"])
    mkdirSync(join(parent, name));
  removeAbandoned(parent, "out");
  const kept = readdirSync(parent).filter((name) => !name.includes(`_${process.pid}_`));
  expect(kept.sort()).toEqual([left("my-out"), "out.tmp", "out.tmp-abcdef", left("out2")].sort());
});
