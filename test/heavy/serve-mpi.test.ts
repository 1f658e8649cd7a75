/** A server whose ranks are MPI processes: the tokens of ranks that are threads, and answers under way end when it is asked to. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { Serving } from "../../src/api/serve-options.js";
import { startServing } from "../../src/api/serving.js";
import { CLI, HAS_MPI, MPIRUN, MPI_ENV, temporaryDirectory } from "../helpers.js";
import { smallModel } from "../inference.js";

const TOKENS = 24;

async function complete(address: string, tokens = TOKENS): Promise<unknown> {
  const response = await fetch(`${address}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...{
        prompt: [
          [1, 2, 3],
          [4, 5],
          [6, 7, 8, 9],
        ],
        max_tokens: tokens,
        ignore_eos: true,
      },
      ...{ seed: 3, logprobs: 1, return_tokens_as_token_ids: true },
    }),
  });
  expect(response.status).toBe(200);
  return ((await response.json()) as { choices: unknown }).choices;
}

describe.skipIf(!HAS_MPI)("serve under mpirun", () => {
  it("answers as threads do; SIGUSR2 lets answers end, then ends all processes", async () => {
    const model = temporaryDirectory();
    await smallModel(model, { arch: "scmoe-pos2" });
    const threads = (await startServing({ model, port: 0, ranks: 2, ignoreMemory: true })) as Serving;
    const wanted = await complete(threads.address);
    await threads.drain(1_000);

    const args = ["-n", "2", process.execPath, CLI, "serve", model, "--port", "0", "--ignore-memory"];
    const child = spawn(MPIRUN[0], [...MPIRUN.slice(1), ...args], { env: MPI_ENV });
    const ended = once(child, "close") as Promise<[number | null]>;
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (data: Buffer) => (output += data.toString()));
    let address: string | undefined;
    for (; address === undefined; await sleep(20)) {
      if (child.exitCode !== null) throw new Error(`it ended at once: ${output}`);
      address = /Serving .* at (http:\S+);/.exec(output)?.[1];
    }
    expect(await complete(address)).toEqual(wanted);
    const last = complete(address, 2 * TOKENS);
    await sleep(50);
    child.kill("SIGUSR2");
    expect(await last).toHaveLength(3);
    expect((await ended)[0]).toBe(0);
    expect(output).toContain('"msg":"draining"');
    await expect(complete(address)).rejects.toThrow();
  });
});
