/** Proof that overlap changes nothing but time: a twin of the model trains beside it, one operator at a time. */
import { sumScalars } from "../../comm/collectives.js";
import { EnvironmentError } from "../../core/errors.js";
import { sequential } from "../../schedule/sequential.js";
import { momentsOf } from "../moments.js";
import type { Update } from "../optimizer.js";
import { type StepReport, applyUpdate, computeStep } from "../step.js";
import { type StepProgram, type StepSessions, mainRun, openStep } from "../step-sessions.js";
import { type Trainee, createTrainee } from "../trainee.js";
import type { Observer, StepDone } from "./observer.js";

/** Bytes of losses, gradients and weights that were compared with a sequential twin, and how many differ. */
export interface ProofReport {
  readonly steps: number;
  /** Over all steps and ranks. */
  readonly bytes: number;
  readonly differing: number;
}

/** Holds a second copy of weights, gradients and optimiser state. */
export class OverlapProof implements Observer {
  readonly #twin: Trainee;
  readonly #sessions: StepSessions;
  #report: ProofReport = { steps: 0, bytes: 0, differing: 0 };
  /** What the twin's step before has left to its next one. */
  #left: Update | undefined;

  /**
   * @param rank with its weights initialised or loaded
   * @param program that of the run: the twin runs the same, one operator at a time in program order
   */
  constructor(
    readonly rank: Trainee,
    program: StepProgram,
  ) {
    const { config, engine, world, ep, zero } = rank;
    const made = createTrainee({ config, engine, world, epSize: ep.size, zero });
    const twin = (this.#twin = { ...made, teacher: rank.teacher });
    rank.weights.buckets.forEach((bucket, b) => {
      const copy = twin.weights.buckets[b];
      const [from, to] = [momentsOf(rank, bucket), momentsOf(twin, copy)];
      copy.weights.set(bucket.weights);
      to.expAvg.set(from.expAvg);
      to.expAvgSq.set(from.expAvgSq);
    });
    for (const [name, { data }] of rank.weights.buffers) twin.weights.buffers.get(name)?.data.set(data);
    this.#sessions = openStep(twin, program, sequential);
  }

  get report(): ProofReport {
    return this.#report;
  }

  /**
   * Trains the twin on the same batches sequentially, and compares losses, gradients and weights byte by byte: weights
   * with the updates that the rank has made by now.
   * @throws EnvironmentError, on every rank, when a byte differs on any
   */
  step({ report, batches, options, sessions, isUpdated }: StepDone): void {
    const { rank } = this;
    const twin = this.#twin;
    const own = computeStep(twin, this.#sessions, batches, options, this.#left);
    this.#left = own.update;
    if (isUpdated && own.update !== undefined) {
      applyUpdate(this.#sessions, own.update);
      this.#left = undefined;
    }
    const pairs: [Uint8Array, Uint8Array][] = [[figures(own.report), figures(report)]];
    twin.weights.buckets.forEach((bucket, b) => {
      const other = rank.weights.buckets[b];
      pairs.push([bytesOf(twin.gradients.bucket(bucket)), bytesOf(rank.gradients.bucket(other))]);
      pairs.push([bytesOf(bucket.weights), bytesOf(other.weights)]);
    });
    for (const [name, { data }] of twin.weights.buffers)
      pairs.push([bytesOf(data), bytesOf(rank.weights.buffers.get(name)?.data ?? data)]);
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
        `Step ${options.step + 1}: ${differing} of ${bytes} bytes of losses, gradients and weights differ between sequential and ${mainRun(sessions).schedule.policy}; this is a bug, please report it`,
      );
  }
}

function figures(report: StepReport): Uint8Array {
  const { lmLoss, distillLoss = 0, balanceLoss, zLoss, gradientNorm } = report;
  return new Uint8Array(Float64Array.of(lmLoss, distillLoss, balanceLoss, zLoss, gradientNorm).buffer);
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
