import { appendFileSync, mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { type Mode, type Operation, breakDisk, mendDisk } from "../../test/faults/faulty-disk.mjs";
import { EnvironmentError, InputError } from "../core/errors.js";
import { openMetrics } from "./metrics.js";

const newFile = (): string => join(mkdtempSync(join(tmpdir(), "scmoe-metrics-")), "metrics.jsonl");
const steps = (path: string): number[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { step: number }).step);

it("a resumed run continues after its checkpoint's step, whatever a crash left behind", () => {
  const path = newFile();
  const first = openMetrics(path, 0);
  for (let step = 1; step <= 5; step++) first.append({ step, loss: step / 4 });
  appendFileSync(path, '{"step":6,"lo');
  const second = openMetrics(path, 3);
  expect(second.numDamaged).toBe(0);
  second.append({ step: 4, loss: 9 });
  expect(readFileSync(path, "utf8")).toBe(
    '{"step":1,"loss":0.25}\n{"step":2,"loss":0.5}\n{"step":3,"loss":0.75}\n{"step":4,"loss":9}\n',
  );
  expect(readdirSync(dirname(path))).toEqual(["metrics.jsonl"]);
});

it("a last line that is cut off is removed even where what is left of it is a row", () => {
  const path = newFile();
  writeFileSync(path, '{"step":1}\n{"step":2}');
  expect(openMetrics(path, 2).numDamaged).toBe(0);
  expect(readFileSync(path, "utf8")).toBe('{"step":1}\n');
});

it.each([
  ["half a row", '{"step":2,"lo'],
  ["bytes of a lost block", "\0\0\0\0"],
  ["an empty line", ""],
  ["a number", "2"],
  ["nothing", "null"],
  ["a row without a step", '{"loss":1}'],
  ["a step that is no count", '{"step":"2"}'],
])("%s in the middle costs no other row, and is counted", (_, damage) => {
  const path = newFile();
  writeFileSync(path, `{"step":1}\n${damage}\n{"step":3, "loss":1}\n${damage}\n{"step":4}\n{"step":5}\n`);
  const metrics = openMetrics(path, 4);
  expect(metrics.numDamaged).toBe(2);
  metrics.append({ step: 5, loss: 2 });
  // Rows are kept as they were written.
  expect(readFileSync(path, "utf8")).toBe(
    '{"step":1}\n{"step":3, "loss":1}\n{"step":4}\n{"step":5,"loss":2}\n',
  );
  expect(openMetrics(path, 9).numDamaged).toBe(0);
});

it("a file longer than what is read at a time is cut like any other, and one that needs no cut is left alone", () => {
  const path = newFile();
  const row = (step: number): string => `${JSON.stringify({ step, text: "é".repeat(1 << 20) })}\n`;
  writeFileSync(path, Array.from({ length: 18 }, (_, i) => row(i + 1)).join(""));
  openMetrics(path, 12);
  expect(steps(path)).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
  expect(statSync(path).size).toBe(
    Buffer.byteLength(Array.from({ length: 12 }, (_, i) => row(i + 1)).join("")),
  );
  const { ino } = statSync(path);
  openMetrics(path, 12);
  expect(statSync(path).ino).toBe(ino);
});

it("what cannot be read is refused in one line", () => {
  expect(() => openMetrics(tmpdir(), 1)).toThrow(InputError);
  expect(() => openMetrics(tmpdir(), 1)).toThrow(/^Cannot read .*: it is a directory, wanted a file$/);
});

it("a disk that fails or is full changes nothing, and is not taken for a file that is not there", () => {
  const path = newFile();
  const text = '{"step":1}\n{"step":2}\n';
  writeFileSync(path, text);
  const cut = (at: number, mode: Mode): void => {
    breakDisk({ root: dirname(path), at, mode });
    try {
      openMetrics(path, 1);
    } finally {
      operations = mendDisk();
    }
  };
  let operations: Operation[] = [];
  cut(0, "EIO");
  const all = operations;
  all.forEach(({ name, path: file, modes }, i) => {
    writeFileSync(path, text);
    for (const mode of modes.filter((mode) => !mode.startsWith("kill"))) {
      // What was only read was read.
      if (name === "closeSync" && !file.endsWith(".tmp")) continue;
      expect(() => cut(i + 1, mode), `${name}: ${mode}`).toThrow(EnvironmentError);
      expect(readFileSync(path, "utf8")).toBe(text);
      expect(readdirSync(dirname(path))).toEqual(["metrics.jsonl"]);
    }
  });
});
