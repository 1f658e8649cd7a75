/**
 * An architecture is a wiring: operators, what each reads and writes, and on which stream it runs. A shortcut sends rows
 * to the experts as soon as the block before has them, and needs the answer later. A policy orders the operators, the
 * simulator predicts the step: nobody writes overlap by hand.
 */
import assert from "node:assert/strict";
import {
  buildProgram,
  classCosts,
  parsePolicy,
  preset,
  resolveModel,
  simulate,
  whyIllegal,
} from "scmoe/plan";

/** Milliseconds of each class of operators; what is not named is quick. */
const costs = classCosts({ attention: 2, mlp: 3, shared: 3, expert: 2, dispatch: 3, combine: 3 }, 0.01);

const steps = ["shared", "scmoe-pos2"].map((arch) => {
  const config = resolveModel({ ...preset("tiny"), arch });
  const { program } = buildProgram(config, { batch: 1, sequence: 64, epSize: 2, head: "losses" });
  const schedule = parsePolicy("adaptive").schedule(program, costs);
  assert.equal(whyIllegal(program, schedule), undefined);
  const { stepMs, exposedMs } = simulate(program, schedule, { costs: [costs] }).summary;
  console.log(`${arch}: ${stepMs.toFixed(1)} ms, ${exposedMs.toFixed(1)} ms of them waiting for the network`);
  return { stepMs, exposedMs };
});
const [plain, shortcut] = steps;
assert.ok(plain !== undefined && shortcut !== undefined);
assert.ok(shortcut.stepMs < plain.stepMs);
assert.ok(shortcut.exposedMs < plain.exposedMs);
