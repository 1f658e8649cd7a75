/** A new order for a program of 24 layers follows from the program alone: no engine, nothing derived twice. */
import { describe, expect, it } from "vitest";
import { resolveModel } from "../model/config.js";
import { preset } from "../model/presets.js";
import { buildTrainingProgram } from "../model/training-program.js";
import { graphOf } from "../program/graph.js";
import { type Operator, STREAMS } from "../program/operator.js";
import { Stepper, stepsOf } from "../program/stepper.js";
import { whyIllegal } from "../program/validate.js";
import { type Costs, unitCosts } from "../simulate/costs.js";
import { parsePolicy } from "./policy.js";

const config = resolveModel(preset("gpt2-moe-medium"));
const { program } = buildTrainingProgram(config, { batch: 8, sequence: 1024, epSize: 8 });
/** The link has halved its rate. */
const drifted: Costs = (op) => unitCosts(op) * (op.stream === "network" ? 2 : 1);
const edges = ({ reads, writes, after }: Operator) => [reads, writes, after];

describe("a training program of 24 layers", () => {
  it("is one", () => {
    expect(Math.max(...program.operators.map((op) => op.layer ?? 0))).toBe(23);
    expect(program.operators.filter((op) => op.kind === "route").length).toBe(12);
  });

  it.each(["sequential", "fixed(2)", "pipelined(1)", "adaptive"])("takes the order of %s", (name) => {
    const policy = parsePolicy(name);
    const graph = graphOf(program);
    const before = structuredClone(program.operators.map(edges));
    const [first, second] = [unitCosts, drifted].map((costs) => policy.schedule(program, costs));
    for (const schedule of [first, second]) {
      expect(whyIllegal(program, schedule)).toBeUndefined();
      const steps = stepsOf(program, schedule);
      // Once per schedule: another run of it derives nothing.
      expect(stepsOf(program, schedule)).toBe(steps);
      const stepper = new Stepper(steps);
      const started: number[] = [];
      for (;;) {
        const id = STREAMS.map((stream) => stepper.startable(stream)).find((head) => head !== undefined);
        if (id === undefined) break;
        stepper.start(id);
        stepper.finish(id);
        started.push(id);
      }
      expect(stepper.isDone).toBe(true);
      expect(started.toSorted((a, b) => a - b)).toEqual(program.operators.map((op) => op.id));
    }
    expect(stepsOf(program, second)).not.toBe(stepsOf(program, first));
    // The program and its dependencies are those of before.
    expect(graphOf(program)).toBe(graph);
    expect(program.operators.map(edges)).toEqual(before);
  });
});
