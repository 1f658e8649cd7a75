import { readFileSync } from "node:fs";

/** From package.json: the one place that states it. */
export const VERSION = (
  JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }
).version;
