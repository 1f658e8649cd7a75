import { expect, it } from "vitest";
import { Viewport, markDistance } from "./page/viewport.js";

it("zooms about a point and never leaves the step", () => {
  const view = new Viewport();
  view.fit(100);
  view.zoom(0.25, 0.5);
  expect(view.from + 0.25 * view.span).toBeCloseTo(0.25 * 101);
  expect(view.span).toBeCloseTo(101 / 2);
  view.pan(1e6);
  expect([view.to, view.span]).toEqual([expect.closeTo(101), expect.closeTo(101 / 2)]);
  view.zoom(1, 100);
  expect([view.from, view.to]).toEqual([0, 101]);
});

it("scrolls only as far as tracks go on", () => {
  const view = new Viewport();
  view.scrollBy(50, 30);
  expect(view.scroll).toBe(30);
  view.scrollBy(-100, 30);
  expect(view.scroll).toBe(0);
  view.scrollBy(10, -5);
  expect(view.scroll).toBe(0);
});

it.each([
  [100, 10, 10],
  [95, 10, 10],
  [0.3, 5, 0.1],
  [7, 10, 1],
  [11, 10, 2],
])("marks of %f ms, at most %i, are %f ms apart", (span, most, distance) => {
  expect(markDistance(span, most)).toBeCloseTo(distance);
});
