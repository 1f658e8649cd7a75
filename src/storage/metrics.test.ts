import { appendFileSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openMetrics, readMetrics } from "./metrics.js";

it("a resumed run continues after its checkpoint's step, whatever a crash left behind", () => {
  const path = join(mkdtempSync(join(tmpdir(), "scmoe-metrics-")), "metrics.jsonl");
  const first = openMetrics(path, 0);
  for (let step = 1; step <= 5; step++) first.append({ step, loss: step / 4 });
  appendFileSync(path, '{"step":6,"lo');
  expect(readMetrics(path).map((row) => row.step)).toEqual([1, 2, 3, 4, 5]);
  const second = openMetrics(path, 3);
  second.append({ step: 4, loss: 9 });
  expect(readFileSync(path, "utf8")).toBe(
    '{"step":1,"loss":0.25}\n{"step":2,"loss":0.5}\n{"step":3,"loss":0.75}\n{"step":4,"loss":9}\n',
  );
});
