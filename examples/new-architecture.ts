/**
 * An architecture is a wiring: operators, what each reads and writes, and on which stream it runs. This one sends rows to
 * experts as soon as the block before has them, and needs the answer two operators later. Policies order it, the
 * simulator predicts it: nobody writes overlap by hand.
 */
import assert from "node:assert/strict";
import { ProgramBuilder, type Program, parsePolicy, simulate, whyIllegal } from "scmoe/plan";

/** @param early whether rows leave before attention (a shortcut) or after it */
function wire(early: boolean): Program {
  const builder = new ProgramBuilder();
  const operator = (
    name: string,
    reads: readonly number[],
    stream: "compute" | "network" = "compute",
  ): number => {
    const value = builder.value(name, 1024);
    builder.add({ name, kind: "example", stream, reads, writes: [value], cost: name, data: undefined });
    return value;
  };
  const mlp = operator("mlp", []);
  const attend = (): number => operator("attention", [mlp]);
  const attended = early ? undefined : attend();
  const sent = operator("dispatch", [attended ?? mlp], "network");
  const experts = operator("expert", [sent]);
  const back = operator("combine", [experts], "network");
  operator("sum", [attended ?? attend(), back]);
  return builder.build(early ? "shortcut" : "plain");
}

const MS: Readonly<Record<string, number>> = {
  mlp: 2,
  attention: 4,
  dispatch: 3,
  expert: 1,
  combine: 3,
  sum: 1,
};
const costs = (op: { readonly cost: string }): number => MS[op.cost] ?? NaN;
const steps = [false, true].map((early) => {
  const program = wire(early);
  const schedule = parsePolicy("adaptive").schedule(program, costs);
  assert.equal(whyIllegal(program, schedule), undefined);
  const { stepMs, exposedMs } = simulate(program, schedule, { costs: [costs] }).summary;
  console.log(`${program.name}: ${stepMs} ms, ${exposedMs} ms of them waiting for the network`);
  return stepMs;
});
assert.deepEqual(steps, [14, 11]);
