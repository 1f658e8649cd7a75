import { commJob } from "../bench/comm.js";
import { compareJob } from "../bench/compare.js";
import { evaluateJob } from "../train/evaluate.js";
import { trainJob } from "../train/train-job.js";
import type { Job } from "../run/job.js";

/** Jobs by name: functions do not travel to a thread, names do. */
export const JOBS = {
  train: trainJob,
  evaluate: evaluateJob,
  compare: compareJob,
  comm: commJob,
} satisfies Record<string, Job>;
export type JobName = keyof typeof JOBS;
