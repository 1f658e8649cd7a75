/** N ranks = 1 rank, for every architecture and both styles: losses over 20 steps, gradients of the first. */
import { describe, it } from "vitest";
import { ARCHITECTURE_NAMES } from "../../src/model/architectures.js";
import { shortDocuments } from "../helpers.js";
import { LAYOUTS, type Run, expectSameGradients, expectSameLosses, train } from "../parallel.js";

const MODELS: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(ARCHITECTURE_NAMES.map((arch) => [arch, [`model.arch=${arch}`]])),
  "documents told apart": ["data.document_mask=true", `data.corpus=${shortDocuments()}`],
  "LLaMA style": ["model.style=llama", "model.arch=scmoe-pos2"],
  "MoE in every block": ["model.style=llama", "model.arch=scmoe-pos1", "model.moe_layer_interval=1"],
};

describe.each(Object.entries(MODELS))("%s", (_, sets) => {
  let one: Promise<Run> | undefined;
  it.each(Object.entries(LAYOUTS))("on %s is the run on one rank", async (_name, layout) => {
    one ??= train(sets, { ranks: 1 });
    const run = await train(sets, layout);
    expectSameLosses(run, await one);
    expectSameGradients(run, await one);
  });
});
