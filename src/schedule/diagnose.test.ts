import { expect, it } from "vitest";
import { resolveModel } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";
import type { Program } from "../program/program.js";
import { type Costs, classCosts } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import type { ExposedInterval, Timeline, TimelineEvent } from "../timeline/timeline.js";
import { whyExposed } from "./diagnose.js";
import { parsePolicy } from "./policy.js";

function programOf(arch: string, chunks = 1): Program {
  const config = resolveModel({
    arch,
    vocab_size: 16,
    hidden_size: 8,
    intermediate_size: 16,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: 8,
  });
  return buildProgram(config, { batch: 1, sequence: 8, epSize: 2, chunks, head: "losses" }).program;
}

const costsWith = (transferMs: number, computeMs = 4): Costs =>
  classCosts(
    {
      attention: computeMs,
      mlp: computeMs,
      shared: computeMs,
      expert: computeMs,
      dispatch: transferMs,
      combine: transferMs,
    },
    0,
  );

/** A schedule made and predicted at some costs, and run at others on each rank. */
function step(arch: string, policy: string, expected: Costs, ran: readonly Costs[]) {
  const program = programOf(arch);
  const schedule = parsePolicy(policy).schedule(program, expected);
  const predicted = simulate(program, schedule, { costs: ran.map(() => expected) });
  const measured: Timeline = { ...simulate(program, schedule, { costs: ran }), kind: "measured" };
  return { program, schedule, predicted, measured };
}

const two = (costs: Costs): Costs[] => [costs, costs];

it("says nothing when the overlap happened or none was asked for", () => {
  expect(whyExposed(step("scmoe-pos2", "adaptive", costsWith(3), two(costsWith(3))))).toBeUndefined();
  expect(whyExposed(step("top2", "sequential", costsWith(3), two(costsWith(3))))).toBeUndefined();
});

it("names one rank", () => {
  const found = whyExposed(step("scmoe-pos2", "adaptive", costsWith(0), [costsWith(0)]));
  expect(found?.cause).toBe("one rank");
});

it("names an architecture without a window", () => {
  const found = whyExposed(step("top2", "adaptive", costsWith(3), two(costsWith(3))));
  expect(found).toMatchObject({
    cause: "no window",
    message: expect.stringContaining("pipelined") as string,
  });
});

it("names a schedule that places nothing", () => {
  const { program, ...rest } = step("scmoe-pos2", "adaptive", costsWith(3), two(costsWith(3)));
  // Program order under a policy's name that promises overlap.
  const schedule = { ...parsePolicy("sequential").schedule(program), policy: "fixed(9)" };
  const timeline = simulate(program, schedule, { costs: two(costsWith(3)) });
  expect(whyExposed({ ...rest, program, schedule, measured: timeline, predicted: timeline })?.cause).toBe(
    "nothing placed",
  );
});

it("names a network slower than the window, by how much", () => {
  const found = whyExposed(step("scmoe-pos2", "adaptive", costsWith(40), two(costsWith(40))));
  expect(found?.cause).toBe("network-bound");
  expect(found?.message).toMatch(/transfers take \d+\.\d ms, the step computes \d+\.\d ms/);
});

it("suspects no transport where the wait was foreseen", () => {
  const base = step("scmoe-pos2", "adaptive", costsWith(40), two(costsWith(40)));
  const slower = base.measured.exposed.map((wait) => ({ ...wait, endMs: wait.endMs + 2 }));
  expect(whyExposed({ ...base, measured: { ...base.measured, exposed: slower } })?.cause).toBe(
    "network-bound",
  );
});

it("names the rank that others wait for", () => {
  const ran = [costsWith(1), costsWith(1, 9)];
  const found = whyExposed(step("scmoe-pos2", "adaptive", costsWith(1), ran));
  expect(found).toMatchObject({
    cause: "late peer",
    message: expect.stringContaining("rank 1 computes longest") as string,
  });
});

it("names a transport that rests while kernels run", () => {
  const base = step("scmoe-pos2", "adaptive", costsWith(3), two(costsWith(3)));
  // One transfer alone at full rate; the others lie still for 8 ms of computing and are then waited for.
  const common = { stream: "network", operator: 0, name: "", pass: "forward", bytes: 300 } as const;
  const events: TimelineEvent[] = [];
  const exposed: ExposedInterval[] = [];
  for (const rank of [0, 1]) {
    events.push({ ...common, rank, cost: "dispatch", class: "dispatch", startMs: 0, endMs: 3 });
    for (const start of [10, 30, 50]) {
      events.push({ ...common, rank, cost: "combine", class: "combine", startMs: start, endMs: start + 11 });
      events.push({
        ...common,
        stream: "compute",
        rank,
        cost: "mlp",
        class: "mlp",
        startMs: start,
        endMs: start + 8,
        bytes: undefined,
      });
      exposed.push({ rank, waitingFor: "expert", startMs: start + 8, endMs: start + 11 });
    }
  }
  const summary = {
    stepMs: 70,
    computeMs: 24,
    communicationMs: 36,
    exposedMs: 9,
    lateMs: 0,
    overlapShare: 0.75,
  };
  const measured: Timeline = { kind: "measured", numRanks: 2, events, exposed, summary };
  expect(whyExposed({ ...base, measured })?.cause).toBe("no progress");
});

it("is silent where a step took little longer than predicted", () => {
  // 10.2 % of the communication was exposed, 4.9 % of the step.
  const found = whyExposed(step("scmoe-pos2", "fixed(2)", costsWith(3, 10), two(costsWith(12.55, 10))));
  expect(found).toBeUndefined();
});

it("names costs that changed", () => {
  const found = whyExposed(step("scmoe-pos2", "fixed(2)", costsWith(3), two(costsWith(20))));
  expect(found).toMatchObject({
    cause: "costs changed",
    message: expect.stringMatching(/took .* were predicted/) as string,
  });
});
