/** Proof that overlap changes nothing but time: a twin of the model trains beside it, one operator at a time. */
import { sumScalars } from "../comm/collectives.js";
import { EnvironmentError } from "../core/errors.js";
import type { Plan } from "../run/executor.js";
import { type Rank, createRank } from "../run/rank.js";
import { sequential } from "../schedule/sequential.js";
import { type MicroBatch, type StepOptions, type StepPlans, type StepReport, trainStep } from "./step.js";

/** Bytes of losses, gradients and weights that were compared with a sequential twin, and how many differ. */
export interface ProofReport {
  readonly steps: number;
  /** Over all steps and ranks. */
  readonly bytes: number;
  readonly differing: number;
}

/** Holds a second copy of weights, gradients and optimiser state. */
export class OverlapProof {
  readonly #twin: Rank;
  #report: ProofReport = { steps: 0, bytes: 0, differing: 0 };

  /** @param rank with its weights initialised or loaded */
  constructor(readonly rank: Rank) {
    const { config, engine, world, ep, zero } = rank;
    this.#twin = createRank({ config, engine, world, epSize: ep.size, training: true, zero });
    const { buckets, buffers } = this.#twin.parameters;
    rank.parameters.buckets.forEach((bucket, b) => {
      buckets[b].weights.set(bucket.weights);
      buckets[b].expAvg.set(bucket.expAvg);
      buckets[b].expAvgSq.set(bucket.expAvgSq);
    });
    for (const [name, { data }] of rank.parameters.buffers) buffers.get(name)?.data.set(data);
  }

  get report(): ProofReport {
    return this.#report;
  }

  /**
   * Trains the twin on the same batches sequentially, and compares losses, gradients and weights byte by byte.
   * @param overlapped what the step reported; the rank holds its gradients and updated weights
   * @throws EnvironmentError, on every rank, when a byte differs on any
   */
  check(
    overlapped: StepReport,
    plans: StepPlans,
    batches: readonly MicroBatch[],
    options: StepOptions,
  ): void {
    const own = trainStep(this.#twin, sequentialPlans(plans), batches, options);
    const pairs: [Uint8Array, Uint8Array][] = [[figures(own), figures(overlapped)]];
    this.#twin.parameters.buckets.forEach((bucket, b) => {
      const other = this.rank.parameters.buckets[b];
      pairs.push([bytesOf(bucket.gradients), bytesOf(other.gradients)]);
      pairs.push([bytesOf(bucket.weights), bytesOf(other.weights)]);
    });
    for (const [name, { data }] of this.#twin.parameters.buffers)
      pairs.push([bytesOf(data), bytesOf(this.rank.parameters.buffers.get(name)?.data ?? data)]);
    const [bytes, differing] = sumScalars(
      this.rank.world,
      [
        pairs.reduce((sum, [a]) => sum + a.length, 0),
        pairs.reduce((sum, pair) => sum + numDiffering(...pair), 0),
      ],
      "proof",
    );
    this.#report = {
      steps: this.#report.steps + 1,
      bytes: this.#report.bytes + bytes,
      differing: this.#report.differing + differing,
    };
    if (differing > 0)
      throw new EnvironmentError(
        `Step ${options.step + 1}: ${differing} of ${bytes} bytes of losses, gradients and weights differ between sequential and ${plans.last.schedule.policy}; this is a bug, please report it`,
      );
  }
}

/** The same programs, one operator at a time in program order. */
function sequentialPlans(plans: StepPlans): StepPlans {
  let made = sequentialOf.get(plans);
  if (made === undefined) {
    const inOrder = (plan: Plan): Plan => ({ ...plan, schedule: sequential(plan.program) });
    made = { ...plans, accumulate: inOrder(plans.accumulate), last: inOrder(plans.last) };
    sequentialOf.set(plans, made);
  }
  return made;
}
const sequentialOf = new WeakMap<StepPlans, StepPlans>();

function figures(report: StepReport): Uint8Array {
  const { lmLoss, balanceLoss, zLoss, gradientNorm } = report;
  return new Uint8Array(Float64Array.of(lmLoss, balanceLoss, zLoss, gradientNorm).buffer);
}

function bytesOf(array: Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function numDiffering(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return 0;
  let count = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) count++;
  return count;
}
