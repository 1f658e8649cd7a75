import { readdirSync } from "node:fs";
import { Script } from "node:vm";
import { PAGE_SCRIPT } from "#page-script";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { makeTimeline } from "./summary.js";
import { timelineHtml } from "./timeline-html.js";

const html = timelineHtml([
  { title: "</script> & more", predicted: makeTimeline("predicted", 1, [], []) },
  { title: "second", predicted: makeTimeline("predicted", 2, [], []) },
]);
const elements = [...html.matchAll(/<script([^>]*)>([^]*?)<\/script>/g)].map(([, attributes, text]) => ({
  attributes,
  text,
}));

it("holds its data and one classic script, which imports and exports nothing", () => {
  expect(elements.map((e) => e.attributes)).toEqual([' id="data" type="application/json"', ""]);
  const [data, script] = elements.map((e) => e.text);
  expect((JSON.parse(data) as { cases: { title: string }[] }).cases.map((c) => c.title)).toEqual([
    "</script> & more",
    "second",
  ]);
  expect(script).toBe(PAGE_SCRIPT);
  expect(script).toContain("timelinePage");
  // Parsed as what it is, not as a module: a statement that imports or exports is a syntax error.
  expect(() => new Script(script)).not.toThrow();
});

it("the folder, with all it imports, bundles for a browser: nothing asks for a module of Node", async () => {
  const folder = new URL(".", import.meta.url).pathname;
  const entryPoints = readdirSync(folder)
    .filter((name) => name.endsWith(".ts") && !/\.(test|d)\.ts$/.test(name))
    .map((name) => folder + name);
  expect(entryPoints).toContain(`${folder}timeline-html.ts`);
  const outdir = "never-written";
  const bundled = {
    entryPoints,
    outdir,
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
  } as const;
  await expect(build({ ...bundled, logLevel: "silent" })).resolves.toMatchObject({ errors: [] });
});

it("shows what is only measured, too", () => {
  const alone = timelineHtml([{ title: "a step", measured: makeTimeline("measured", 2, [], []) }]);
  const [, data] = /<script id="data"[^>]*>([^]*?)<\/script>/.exec(alone) as unknown as string[];
  expect(JSON.parse(data)).toMatchObject({ cases: [{ numRanks: 2, sides: [{ kind: "measured" }] }] });
});
