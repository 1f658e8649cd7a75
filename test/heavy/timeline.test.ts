/** The timeline page in a real browser, and the trace beside it. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Browser, type Page, chromium } from "playwright-core";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { resolveModel } from "../../src/model/config.js";
import { preset } from "../../src/model/presets.js";
import { buildTrainingProgram } from "../../src/model/training-program.js";
import { parsePolicy } from "../../src/schedule/policy.js";
import { unitCosts } from "../../src/simulate/costs.js";
import { simulate } from "../../src/simulate/simulate.js";
import { type PageCase, type PageData, type PageSide, milliseconds } from "../../src/timeline/page/data.js";
import { timelineHtml } from "../../src/timeline/timeline-html.js";
import { MINI, scmoe, temporaryDirectory } from "../helpers.js";

const BROWSER = ["/usr/bin/chromium", "/usr/bin/google-chrome"].find((path) => existsSync(path));
const dir = temporaryDirectory();
const compared = join(dir, "out", "timeline.html");

beforeAll(() => {
  const sizes = "--width 64 --pairs 2 --vocab 256 --sequence 32 --batch 2 --rounds 2".split(" ");
  const archs = "top2:sequential scmoe-pos2:adaptive";
  const link = ["--link", "20mbit,50us"];
  const ran = scmoe(["bench", "compare", ...sizes, "--archs", archs, ...link, "-o", "out"], dir);
  expect([ran.code, ran.stderr]).toEqual([0, expect.any(String)]);
});

it("a trace names every rank and stream, and its arrows begin and end", () => {
  interface Event {
    readonly ph: string;
    readonly name: string;
    readonly id?: number;
    readonly pid: number;
    readonly ts?: number;
    readonly dur?: number;
    readonly args?: { readonly name?: string };
  }
  const text = readFileSync(join(dir, "out", "timeline.json"), "utf8");
  const { traceEvents } = JSON.parse(text) as { traceEvents: Event[] };
  const names = traceEvents.filter((e) => e.name === "process_name").map((e) => e.args?.name);
  expect(names).toEqual(["rank 0", "rank 1", "rank 0, predicted", "rank 1, predicted"]);
  for (const e of traceEvents) if (e.ph === "X") expect(e.dur).toBeGreaterThanOrEqual(0);
  const ids = (ph: string) => traceEvents.filter((e) => e.ph === ph).map((e) => e.id);
  expect(ids("s").length).toBeGreaterThan(0);
  expect(ids("s")).toEqual(ids("f"));
});

describe.skipIf(BROWSER === undefined)("the page", () => {
  let browser: Browser;
  let page: Page;
  let problems: string[];
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox"] });
  });
  afterAll(() => browser.close());
  beforeEach(async () => {
    page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
    problems = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith("file:")) problems.push(request.url());
    });
    return async () => {
      expect(problems).toEqual([]);
      await page.close();
    };
  });

  interface Box {
    readonly x: number;
    readonly y: number;
    readonly width: number;
    readonly height: number;
    readonly side: PageSide["kind"];
    readonly event?: number;
    readonly exposed?: number;
  }
  interface View {
    readonly from: number;
    readonly to: number;
    readonly scroll: number;
    readonly boxes: readonly Box[];
    readonly selected?: number;
  }
  const view = (): Promise<View> => page.evaluate("timelinePage.view()");
  const open = async (path: string): Promise<PageCase[]> => {
    await page.goto(`file://${path}`);
    await expect.poll(async () => (await view()).boxes.length).toBeGreaterThan(0);
    return (JSON.parse((await page.textContent("#data")) ?? "") as PageData).cases as PageCase[];
  };
  const onCanvas = async (x: number, y: number): Promise<[number, number]> => {
    const box = await page.locator("#canvas").boundingBox();
    return [(box?.x ?? 0) + x, (box?.y ?? 0) + y];
  };
  const colorAt = (x: number, y: number): Promise<number[]> =>
    page.evaluate(
      `[...document.getElementById("canvas").getContext("2d").getImageData(${x} * devicePixelRatio, ${y} * devicePixelRatio, 1, 1).data]`,
    );

  it("draws every operator of every rank, measured over predicted", async () => {
    const [first] = await open(compared);
    const { boxes } = await view();
    for (const side of first.sides) {
      const drawn = boxes.filter((box) => box.side === side.kind);
      expect(new Set(drawn.flatMap((b) => b.event ?? [])).size).toBe(side.events.length);
      expect(new Set(drawn.flatMap((b) => b.exposed ?? [])).size).toBe(side.exposed.length);
    }
    const top = (side: string): number => Math.min(...boxes.filter((b) => b.side === side).map((b) => b.y));
    expect(top("measured")).toBeLessThan(top("predicted"));
    expect(await page.textContent("#figures")).toContain(milliseconds(first.sides[0].summary.stepMs));
  });

  it("shades exactly the waits", async () => {
    const [first] = await open(compared);
    const { from, to, boxes } = await view();
    const width = (await page.locator("#canvas").boundingBox())?.width ?? 0;
    const perMs = (width - 128) / (to - from);
    const waits = first.sides[0].exposed;
    expect(waits.length).toBeGreaterThan(0);
    for (const box of boxes) {
      if (box.exposed === undefined || box.side !== "measured") continue;
      const [, , start, end] = waits[box.exposed];
      expect(box.x).toBeCloseTo(128 + (start - from) * perMs, 1);
      expect(box.width).toBeCloseTo(Math.max(0.75, (end - start) * perMs), 1);
    }
    // Reddish where the widest wait is drawn, grey on the same track where nothing is.
    const widest = boxes.filter((b) => b.exposed !== undefined).reduce((a, b) => (b.width > a.width ? b : a));
    const [red, , blue] = await colorAt(widest.x + widest.width / 2, widest.y + 3);
    expect(red - blue).toBeGreaterThan(10);
    const free = Math.max(...boxes.map((b) => b.x + b.width)) + 3;
    const [r, , b] = await colorAt(Math.min(free, width - 2), widest.y + 3);
    expect(Math.abs(r - b)).toBeLessThan(10);
  });

  it("zooms about the pointer, pans by dragging, and goes back to the whole step", async () => {
    await open(compared);
    const whole = await view();
    const [x, y] = await onCanvas(700, 60);
    await page.mouse.move(x, y);
    for (let i = 0; i < 8; i++) await page.mouse.wheel(0, -100);
    const span = whole.to - whole.from;
    await expect.poll(async () => (await view()).to - (await view()).from).toBeLessThan(span / 5);
    const zoomed = await view();
    const width = (await page.locator("#canvas").boundingBox())?.width ?? 0;
    const share = (700 - 128) / (width - 128);
    const at = (v: View): number => v.from + share * (v.to - v.from);
    expect(at(zoomed)).toBeCloseTo(at(whole), 3);
    await page.mouse.down();
    await page.mouse.move(x - 200, y, { steps: 4 });
    await page.mouse.up();
    const moved = (200 / (width - 128)) * (zoomed.to - zoomed.from);
    await expect.poll(async () => (await view()).from).toBeCloseTo(zoomed.from + moved, 3);
    await page.click("#fit");
    await expect.poll(async () => (await view()).to).toBe(whole.to);
  });

  it("tells about what is clicked, and follows its rows", async () => {
    const [first] = await open(compared);
    const { boxes } = await view();
    const isExpert = (box: Box): boolean =>
      box.event !== undefined &&
      first.operators[first.sides[0].events[box.event][1]].class === "expert" &&
      box.side === "measured" &&
      box.width > 2;
    const expert = boxes.find(isExpert);
    const event = expert?.event as number;
    await page.mouse.click(
      ...(await onCanvas((expert?.x ?? 0) + (expert?.width ?? 0) / 2, (expert?.y ?? 0) + 4)),
    );
    const name = first.operators[first.sides[0].events[event][1]].name;
    await expect.poll(() => page.textContent("#selection")).toContain(name);
    const [, , start, end] = first.sides[0].events[event];
    expect(await page.textContent("#selection")).toContain(`${start.toFixed(3)} – ${end.toFixed(3)} ms`);
    await page.click("#selection button:has-text('→')");
    await expect.poll(() => page.textContent("#selection h2")).toBe(name.replace("expert", "combine"));
    expect(await page.textContent("#selection")).toContain("Gbit/s");
  });

  it("is used by keyboard, changes case, hides a side, and is dark where the system is", async () => {
    const cases = await open(compared);
    await page.focus("#canvas");
    for (const key of ["+", "+", "ArrowRight", "n", "n"]) await page.keyboard.press(key);
    await expect.poll(async () => (await view()).selected).toBeDefined();
    expect((await view()).to).toBeLessThan(cases[0].sides[0].summary.stepMs * 1.02);
    await page.keyboard.press("Escape");
    await expect.poll(() => page.textContent("#selection h2")).toBe("Nothing selected");
    const heavier = cases.length - 1;
    await page.selectOption("#case", String(heavier));
    await expect
      .poll(() => page.textContent("#figures"))
      .toContain(milliseconds(cases[heavier].sides[0].summary.stepMs));
    await page.uncheck("#predicted");
    await expect.poll(async () => (await view()).boxes.some((b) => b.side === "predicted")).toBe(false);
    await page.emulateMedia({ colorScheme: "dark" });
    const background = "getComputedStyle(document.body).backgroundColor";
    expect(await page.evaluate(background)).toBe("rgb(18, 22, 29)");
  });

  it("shows 16 ranks with thousands of events, scrolled", async () => {
    const config = resolveModel({ ...preset("gpt2-moe-medium"), num_experts: 16 });
    const program = buildTrainingProgram(config, { batch: 1, sequence: 128, epSize: 16 }).program;
    const schedule = parsePolicy("fixed(2)").schedule(program, unitCosts);
    const predicted = simulate(program, schedule, { costs: Array.from({ length: 16 }, () => unitCosts) });
    expect(predicted.events.length).toBeGreaterThan(3_000);
    const path = join(dir, "many.html");
    writeFileSync(path, timelineHtml([{ title: "</script> & 16 ranks", predicted }]));
    await open(path);
    expect(await page.textContent("#only")).toBe("</script> & 16 ranks");
    const before = await view();
    expect(before.boxes.length).toBeGreaterThan(1_500);
    await page.focus("#canvas");
    for (let i = 0; i < 40; i++) await page.keyboard.press("ArrowDown");
    const drawnRanks = (v: View): Set<number> =>
      new Set(v.boxes.flatMap((b) => (b.event === undefined ? [] : [predicted.events[b.event].rank])));
    await expect.poll(async () => drawnRanks(await view()).has(15)).toBe(true);
  });

  it("is in the directory of a run on several ranks", async () => {
    const ran = scmoe(["train", "-q", "-o", "run", "-n", "2", "--link", "20mbit,50us", ...MINI], dir);
    expect([ran.code, ran.stderr]).toEqual([0, expect.any(String)]);
    const [first] = await open(join(dir, "run", "timeline.html"));
    expect(first.title).toMatch(/^scmoe-pos2 adaptive, step \d$/);
    expect(first.sides.map((side) => side.kind)).toEqual(["measured", "predicted"]);
    expect(first.numRanks).toBe(2);
    expect(existsSync(join(dir, "run", "timeline.json"))).toBe(true);
  });
});
