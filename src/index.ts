/** The library: what the command line is made of, for use from TypeScript. `scmoe/plan` is the part that runs anywhere. */
export * from "./plan.js";
export { type CompareOptions, compare } from "./api/compare.js";
export { type ConvertModelOptions, type Converted, convert } from "./api/convert.js";
export type { GainOptions, GainRow } from "./api/conversion-gain.js";
export { type EvaluateOptions, evaluate } from "./api/evaluate.js";
export { type ExportOptions, type ExportResult, exportModel } from "./api/export.js";
export { type GenerateBatchOptions, type GenerateOptions, generate, generateBatch } from "./api/generate.js";
export type { GeneratorOptions } from "./api/engine-options.js";
export { openGenerator } from "./api/open-generator.js";
export type { RunOptions } from "./api/run-options.js";
export { serve } from "./api/serve.js";
export type { ServeOptions, Serving } from "./api/serve-options.js";
export { type TrainOptions, type Trained, train } from "./api/train.js";
export { type VerifyOptions, verify } from "./api/verify.js";
export type { BaselineName, CompareCase, CompareResult, CompareRow } from "./bench/compare.js";
export type { CompareMode } from "./bench/contestants.js";
export {
  allGather,
  allReduce,
  barrier,
  broadcast,
  broadcastJson,
  gatherJson,
  maxScalars,
  reduceScatter,
  sumScalars,
} from "./comm/collectives.js";
export type {
  Communicator,
  ExchangeRequest,
  ExchangeResult,
  Handle,
  Pending,
  Pool,
  Regions,
} from "./comm/communicator.js";
export { type Link, formatLink, parseLink } from "./comm/link.js";
export { VERSION } from "./core/version.js";
export type { TokenizerDifference, TokenizerReport } from "./data/verify-tokenizer.js";
export type { Generator, Live, Written } from "./infer/generate.js";
export type { BatchRequest } from "./infer/generate-batch.js";
export { type Inbox, type InboxEnd, type Outbox, createOutbox } from "./launch/inbox.js";
export type { SamplingOptions, TokenLogprob } from "./infer/sampling/sampling-parameters.js";
export type { GenerateRequest, WritingOptions } from "./infer/writing-options.js";
export { type Job, type JobContext, type LineEvent, type Outcome, defineJob } from "./launch/job.js";
export { launch } from "./launch/launch.js";
export type { LaunchOptions } from "./launch/options.js";
export type { QuantisedForm } from "./kernel/quantise.js";
export type { ParameterCount } from "./model/parameters.js";
export type { MemoryOptions } from "./run/memory-need.js";
export type { Limits } from "./serve/limits.js";
export { type RunConfig, type RunInput, type StartingPoint, readRunConfig } from "./train/config.js";
export type { ConvertResult, ConvertTask } from "./train/convert.js";
export type { EvaluateResult, EvaluateTask } from "./train/evaluate.js";
export type { StepEvent } from "./train/event.js";
export type { RunSource } from "./train/open-run.js";
export type { ProofReport } from "./train/observers/proof.js";
export type { BesideTraining, TrainResult } from "./train/train-job.js";
export type { FixtureReport, StepError, TensorError } from "./train/verify.js";
export type { VerifyReport } from "./train/verify-folder.js";
export type { PublishedReport } from "./train/verify-published.js";
