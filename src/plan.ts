/**
 * `scmoe/plan`: programs, schedules, the simulator, clusters and pictures. Pure: no file, no thread, no native code, so
 * that it runs in a browser as well.
 */
export { CommError, EnvironmentError, InputError, InterruptedError } from "./core/errors.js";
export { ARCHITECTURE_NAMES, type Architecture, architecture } from "./model/architectures.js";
export { type ModelConfig, type ModelInput, resolveModel } from "./model/config.js";
export { PRESETS, preset } from "./model/presets.js";
export { addEmbedding, addHead } from "./model/language-model.js";
export {
  type AttentionInputs,
  type BlockInput,
  type SharedOutput,
  type SublayerInput,
  addAttention,
  addMlp,
  addShared,
} from "./model/sublayers.js";
export type { Residual } from "./model/parts/residual.js";
export {
  type BranchOptions,
  type RoutedBranch,
  type RoutingRule,
  decodeBranch,
  routedBranch,
} from "./model/routed-branch.js";
export type { Embedding } from "./model/parts/embedding.js";
export type { GatePart } from "./model/parts/gate.js";
export type { ParameterInfo, Part, Spans } from "./model/parts/part.js";
export { type BlockParts, type ModelStructure, type MoeParts, structureOf } from "./model/structure.js";
export { type BlockCache, type WireOptions, Wires } from "./model/wires.js";
export type { Distillation, HeadOutput } from "./model/parts/head.js";
export {
  type CacheInputs,
  type ModelProgram,
  type ProgramOptions,
  buildProgram,
} from "./model/language-model.js";
export {
  type TrainingOptions,
  type TrainingProgram,
  buildTrainingProgram,
} from "./model/training-program.js";
export type { BackwardOptions } from "./program/backward-walk.js";
export type { LearnedPositions, MoeShape, ParameterSpan } from "./program/kinds.js";
export { type OperatorSpec, ProgramBuilder } from "./program/builder.js";
export type { Kind, Operator, Pass, Stream } from "./program/operator.js";
export { type Program, type Value, dependencies } from "./program/program.js";
export type { OperatorClass, Work } from "./program/work.js";
export type { Schedule } from "./program/schedule.js";
export { whyIllegal } from "./program/validate.js";
export { lowerBound } from "./schedule/bound.js";
export { type Policy, parsePolicy } from "./schedule/policy.js";
export { type AnalyticOptions, analyticCosts } from "./simulate/analytic.js";
export { CLUSTERS, type Cluster, cluster } from "./simulate/clusters.js";
export { type CostTable, type Costs, classCosts, tableCosts } from "./simulate/costs.js";
export type { Network, Traffic } from "./simulate/network.js";
export { type SimulateOptions, simulate } from "./simulate/simulate.js";
export {
  type ChromeTrace,
  type TitledTimelines,
  type TraceEvent,
  chromeTrace,
} from "./timeline/chrome-trace.js";
export { type ChartRow, speedChart } from "./timeline/speed-chart.js";
export type {
  EventOperator,
  ExposedInterval,
  Timeline,
  TimelineEvent,
  TimelineSummary,
} from "./timeline/timeline.js";
export { type ShownStep, timelineHtml } from "./timeline/timeline-html.js";
export {
  type Calibration,
  type MeasuredWork,
  calibrate,
  measuredWork,
  parseCalibration,
} from "./simulate/calibration.js";
export { describeCluster } from "./simulate/cluster-keys.js";
export { DEFAULT_CASES, type PlanRow, type Prediction, plan } from "./api/plan.js";
export type { PlannedCase } from "./api/plan-case.js";
export {
  type Layout,
  type LayoutRow,
  type SearchOptions,
  type SearchResult,
  searchLayouts,
} from "./api/plan-search.js";
export type { LayoutStep } from "./api/layout-step.js";
export type { Remedy } from "./api/plan-fit.js";
export type { PlanOptions } from "./api/plan-question.js";
export type { DeviceMemory } from "./run/device-memory.js";
