import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { InputError } from "../../core/errors.js";
import { chromeTrace } from "../../timeline/chrome-trace.js";
import { makeTimeline } from "../../timeline/summary.js";
import type { TimelineEvent } from "../../timeline/timeline.js";
import { temporaryDirectory } from "../../../test/helpers.js";
import { drawTour } from "./picture.js";

const dir = temporaryDirectory();

const event = (stream: TimelineEvent["stream"], startMs: number, endMs: number): TimelineEvent => ({
  ...{ rank: 0, stream, startMs, endMs, operator: 0, name: "op", cost: "", pass: "forward", class: "expert" },
});

/** A run with a timeline of two operators. */
function runOf(arch: string, computeMs: number, networkMs: readonly [number, number]): string {
  const directory = join(dir, arch);
  mkdirSync(directory);
  const events = [event("compute", 0, computeMs), event("network", ...networkMs)];
  const measured = makeTimeline("measured", 1, events, []);
  const trace = chromeTrace([{ title: arch, measured, predicted: measured }]);
  writeFileSync(join(directory, "timeline.json"), JSON.stringify(trace));
  return directory;
}

it("draws the runs' own steps, as one SVG and for a terminal", () => {
  const course = [{ seconds: 1, loss: 5, validationLoss: 5 }];
  const { path, lines } = drawTour(dir, [
    { title: "apart", directory: runOf("a", 34, [34, 68]), course },
    { title: "together", directory: runOf("b", 34, [0, 34]), course },
  ]);
  expect(path).toBe(join(dir, "tour.svg"));
  const svg = readFileSync(path, "utf8");
  expect(svg).toMatch(/^<svg /);
  expect(svg).toContain("apart");
  expect(readdirSync(dir).sort()).toEqual(["a", "b", "tour.svg"]);
  const [empty, full] = [" ".repeat(34), "█".repeat(34)];
  expect(lines.slice(0, 6)).toEqual([
    "apart: 68 ms",
    `  compute│${full}${empty}│`,
    `  network│${empty}${"▀".repeat(34)}│`,
    "together: 34 ms",
    `  compute│${full}│`,
    `  network│${"▀".repeat(34)}│`,
  ]);
});

it("says which run has no timeline", () => {
  const training = { title: "a", directory: join(dir, "missing"), course: [] };
  expect(() => drawTour(dir, [training])).toThrow(InputError);
  expect(() => drawTour(dir, [training])).toThrow(/missing\/timeline\.json/);
});
