import { afterEach, expect, it } from "vitest";
import { refuseTelemetry } from "./telemetry.js";

const KEY = "ORT_DISABLE_TELEMETRY";
const before = process.env[KEY];
afterEach(() => {
  if (before === undefined) delete process.env[KEY];
  else process.env[KEY] = before;
});

it("refuses, unless the user has decided", () => {
  delete process.env[KEY];
  refuseTelemetry();
  expect(process.env[KEY]).toBe("1");
  process.env[KEY] = "0";
  refuseTelemetry();
  expect(process.env[KEY]).toBe("0");
});
