/** The timeline page in a real browser. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { beforeAll, describe, expect, it } from "vitest";
import { scmoe, temporaryDirectory } from "../helpers.js";

const BROWSER = ["/usr/bin/chromium", "/usr/bin/google-chrome"].find((path) => existsSync(path));
const dir = temporaryDirectory();

beforeAll(() => {
  const small = [
    "--width",
    "64",
    "--pairs",
    "2",
    "--vocab",
    "256",
    "--sequence",
    "32",
    "--batch",
    "2",
    "--rounds",
    "2",
  ];
  const archs = "top2:sequential scmoe-pos2:adaptive";
  const ran = scmoe(
    ["bench", "compare", ...small, "--archs", archs, "--link", "100mbit,50us", "-o", "out"],
    dir,
  );
  expect(ran.code).toBe(0);
});

it("is valid Chrome trace: processes, threads, flow arrows", () => {
  interface Event {
    readonly ph: string;
    readonly id?: number;
    readonly pid: number;
    readonly ts?: number;
    readonly dur?: number;
  }
  const { traceEvents } = JSON.parse(readFileSync(join(dir, "out", "timeline.json"), "utf8")) as {
    traceEvents: Event[];
  };
  expect(new Set(traceEvents.map((e) => e.pid))).toEqual(new Set([0, 1]));
  for (const e of traceEvents) if (e.ph === "X") expect(e.dur).toBeGreaterThanOrEqual(0);
  const ids = (ph: string) => traceEvents.filter((e) => e.ph === ph).map((e) => e.id);
  expect(ids("s").length).toBeGreaterThan(0);
  expect(ids("s")).toEqual(ids("f"));
});

describe.skipIf(BROWSER === undefined)("the page", () => {
  it("draws, zooms, changes step, and loads nothing", async () => {
    const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox"] });
    try {
      const page = await browser.newPage();
      const problems: string[] = [];
      page.on("pageerror", (error) => problems.push(error.message));
      page.on("request", (request) => {
        if (!request.url().startsWith("file:")) problems.push(request.url());
      });
      await page.goto(`file://${join(dir, "out", "timeline.html")}`);
      const drawn = async (): Promise<number> => Number(await page.evaluate("document.body.dataset.drawn"));
      const whole = await drawn();
      expect(whole).toBeGreaterThan(50);
      await page.mouse.move(700, 200);
      for (let i = 0; i < 12; i++) await page.mouse.wheel(0, -200);
      await expect.poll(drawn).toBeLessThan(whole);
      await page.selectOption("#step", "1");
      await expect.poll(drawn).toBeGreaterThan(50);
      expect(await page.textContent("#panel")).toMatch(/exposed/);
      expect(problems).toEqual([]);
    } finally {
      await browser.close();
    }
  });
});
