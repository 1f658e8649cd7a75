/** Plans carried out on this thread, by a model that needs no other rank. */
import { assert } from "../../core/errors.js";
import type { ModelRunner } from "./rank-runner.js";
import { type StepPlan, type StepResult, type StepRunner, phasesOf } from "../step-plan.js";

export interface LocalRunner extends StepRunner {
  run(plan: StepPlan): StepResult;
  close(): void;
}

/** The runner owns the model: it closes it. */
export function localRunner(model: ModelRunner): LocalRunner {
  return {
    shape: { ...model.shape, ranks: 1 },
    run(plan) {
      const { ranks } = plan;
      assert(ranks.length === 1, `a plan for ${ranks.length} ranks, of 1`);
      const { result, times } = model.run(ranks[0], phasesOf(plan));
      return { ranks: [result], times };
    },
    close: () => model.close(),
  };
}
