/** The page of the last step, from ranks that compute it. */
import { expect, it } from "vitest";
import type { Serving } from "../../src/api/serve-options.js";
import { startServing } from "../../src/api/serving.js";
import { temporaryDirectory } from "../helpers.js";
import { smallModel } from "../inference.js";

const dir = temporaryDirectory();

async function complete({ address }: Serving, tokens: number): Promise<void> {
  const response = await fetch(`${address}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: [1, 2, 3], max_tokens: tokens, ignore_eos: true }),
  });
  expect(response.status).toBe(200);
  await response.text();
}

it.each([
  { ranks: undefined, kinds: ["measured"] },
  { ranks: 2, kinds: ["measured", "predicted"] },
])("$ranks ranks: the last step, predicted once operators have been measured", async ({ ranks, kinds }) => {
  const directory = `${dir}/${ranks}`;
  await smallModel(directory, { arch: "scmoe-pos2" });
  const serving = (await startServing({ model: directory, port: 0, ranks, ignoreMemory: true })) as Serving;
  const page = () => fetch(`${serving.address}/debug/timeline`);
  const shown = async () => {
    const response = await page();
    expect(response.ok, response.ok ? "" : await response.clone().text()).toBe(true);
    expect(response.headers.get("content-type")).toMatch(/^text\/html/);
    const [, data] = /<script id="data"[^>]*>([^]*?)<\/script>/.exec(
      await response.text(),
    ) as unknown as string[];
    return JSON.parse(data) as unknown;
  };
  const sides = (wanted: string[]) => wanted.map((kind) => ({ kind }));
  try {
    expect((await page()).status).toBe(404);
    await complete(serving, 2);
    expect(await shown()).toMatchObject({ cases: [{ numRanks: ranks ?? 1, sides: sides(["measured"]) }] });
    await complete(serving, 20);
    expect(await shown()).toMatchObject({ cases: [{ numRanks: ranks ?? 1, sides: sides(kinds) }] });
  } finally {
    await serving.drain(1_000);
  }
});
