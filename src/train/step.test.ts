/** Another order of a training step is the same sessions: nothing is compiled or derived, and the bits stay. */
import { expect, it } from "vitest";
import { countingEngine } from "../../test/engines.js";
import { singleCommunicator } from "../comm/single.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { resolveModel } from "../model/config.js";
import { parsePolicy } from "../schedule/policy.js";
import { sequential } from "../schedule/sequential.js";
import { forwardBackward } from "./step.js";
import { type StepSessions, openStep, reschedule } from "./step-sessions.js";
import { createTrainee } from "./trainee.js";

const SEQUENCE = 16;

it("placing operators anew compiles no kernel and keeps every bit of the gradients", () => {
  const { engine, compiled } = countingEngine(createOrtEngine());
  const config = resolveModel({
    arch: "scmoe-pos2",
    vocab_size: 40,
    hidden_size: 16,
    intermediate_size: 24,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: SEQUENCE,
  });
  const rank = createTrainee({ config, engine, world: singleCommunicator() });
  rank.weights.initialize(3, 0.2);
  const ids = (factor: number) => Int32Array.from({ length: SEQUENCE }, (_, i) => (i * factor) % 40);
  const batch = { tokens: ids(7), labels: ids(11), firstToken: 0 };
  /** Two micro-batches, so that both sessions run. */
  const gradients = (sessions: StepSessions): number[] => {
    forwardBackward(rank, sessions, [batch, batch], { step: 0, seed: 1 });
    return rank.weights.buckets.flatMap((bucket) => [...rank.gradients.bucket(bucket)]);
  };
  const program = { batch: 1, sequence: SEQUENCE, epSize: 1, microBatches: 2, microBatchesAtOnce: 1 };
  const first = openStep(rank, program, sequential);
  const wanted = gradients(first);
  expect(wanted.some((g) => g !== 0)).toBe(true);
  expect(compiled()).toBeGreaterThan(10);
  const { schedule } = parsePolicy("fixed(3)");
  const second = reschedule(first, (program) => schedule(program));
  expect(second.last.schedule.order.compute).not.toEqual(first.last.schedule.order.compute);
  expect(second.accumulate?.session).toBe(first.accumulate?.session);
  expect(second.accumulate).toBeDefined();
  expect(second.last.session).toBe(first.last.session);
  expect(gradients(second)).toEqual(wanted);
  expect(compiled()).toBe(0);
  engine.dispose();
});
