import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { breakDisk, mendDisk } from "../../test/faults/faulty-disk.mjs";
import { EnvironmentError, InputError } from "../core/errors.js";
import { prepareData } from "./prepare.js";

it("preparing data: whichever operation fails, one line names a file, nothing is left behind, and it can be done again", () => {
  const folder = mkdtempSync(join(tmpdir(), "scmoe-prepare-faults-"));
  const corpus = join(folder, "corpus.txt");
  writeFileSync(corpus, "We the people of the United States. ".repeat(40));
  const cacheDirectory = join(folder, "cache");
  const prepare = (): string => {
    const { directory, train, validation } = prepareData({ corpus, vocabSize: 270, cacheDirectory });
    for (const file of [train, validation]) file.close();
    return directory;
  };
  breakDisk({ root: cacheDirectory, at: 0, mode: "EIO" });
  const directory = prepare();
  const operations = mendDisk();
  const wanted = readAll(directory);
  expect(operations.length).toBeGreaterThan(30);
  const refused = new Set<string>();
  operations.forEach(({ name, path, modes }, i) => {
    for (const mode of modes.filter((mode) => !mode.startsWith("kill"))) {
      rmSync(cacheDirectory, { recursive: true });
      breakDisk({ root: cacheDirectory, at: i + 1, mode });
      let error: unknown;
      try {
        prepare();
      } catch (thrown) {
        error = thrown;
      } finally {
        mendDisk();
      }
      const what = `${name} ${path}: ${mode}`;
      if (error !== undefined) {
        expect(error instanceof EnvironmentError || error instanceof InputError, what).toBe(true);
        expect((error as Error).message).toContain(cacheDirectory);
        expect((error as Error).message).not.toMatch(/\n|injected/);
        refused.add(mode);
      }
      expect(readAll(prepare()), what).toEqual(wanted);
      expect(readdirSync(cacheDirectory), what).toHaveLength(1);
    }
  });
  expect([...refused].sort()).toEqual(["EIO", "ENOSPC", "short"]);
});

function readAll(directory: string): [string, string][] {
  return readdirSync(directory).map((file) => [file, readFileSync(join(directory, file), "hex")]);
}
