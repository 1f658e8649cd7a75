import { expect, it } from "vitest";
import { resolveModel } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";
import { preset } from "../model/presets.js";
import { pruneProgram } from "./prune.js";

it("keeps what the wanted values follow from, and nothing else", () => {
  const model = buildProgram(resolveModel(preset("tiny")), {
    batch: 1,
    sequence: 8,
    epSize: 1,
    head: "losses",
  });
  const { program, routings } = model;
  const pruned = pruneProgram(program, [routings[0].data.routing], "gates");
  expect(pruned.operators.map(({ name }) => name)).toEqual(["embed", "L0.attention", "L1.gate", "L1.route"]);
  expect(pruned.operators.map(({ id }) => id)).toEqual([0, 1, 2, 3]);
  expect(pruned.values).toEqual(program.values);
  const all = pruneProgram(program, [model.output], program.name);
  expect(all).toEqual(program);
});
