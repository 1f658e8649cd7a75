/** The functions of the library refuse what the commands refuse, before anything is started or read. */
import { expect, it } from "vitest";
import {
  parseCalibration,
  describeCluster,
  InputError,
  type Cluster,
  cluster,
  compare,
  evaluate,
  exportModel,
  generate,
  launch,
  plan,
  train,
} from "../src/index.js";
import { trainJob } from "../src/train/train-job.js";

const compared = { model: "tiny", cases: [{ arch: "top2", policy: "sequential" }] };
const shapeless = (changes: Partial<Cluster>) => () =>
  plan({ model: "tiny", cluster: { ...cluster("8xH100"), ...changes } });

const LAB = { devices_per_node: 4, tflops: 100, memory_gb_per_s: 900, intra_gb_per_s: 30 };

it.each([
  ["deadlineMs is NaN; wanted a number above 0", () => train({ deadlineMs: NaN })],
  ["ranks is 65; wanted a whole number from 1 to 64", () => train({ ranks: 65 })],
  ["bytesPerMs is 0; wanted a number from", () => train({ link: { bytesPerMs: 0, latencyMs: 0 } })],
  ["latencyMs is -1; wanted a number from 0", () => train({ link: { bytesPerMs: 1, latencyMs: -1 } })],
  ["train.steps", () => train({ config: { train: { steps: 1e300 } } })],
  ["deadlineMs is Infinity", () => launch(trainJob, {} as never, { deadlineMs: Infinity })],
  ["batches is 0; wanted a whole number from 1", () => evaluate({ model: "none", batches: 0 })],
  ["shardGb is 0; wanted a number above 0", () => exportModel({ model: "none", out: "none", shardGb: 0 })],
  ["sequence is 1.5; wanted a whole number", () => evaluate({ model: "none", sequence: 1.5 })],
  ["maxNewTokens is -1; wanted a whole number from 0", () => generate({ model: "none", maxNewTokens: -1 })],
  ["temperature is NaN; wanted a number from 0", () => generate({ model: "none", temperature: NaN })],
  ["topP is 0; wanted a number above 0, to 1", () => generate({ model: "none", topP: 0 })],
  ["seed is 0.5; wanted a whole number", () => generate({ model: "none", seed: 0.5 })],
  ["minP is 1.5; wanted a number from 0 to 1", () => generate({ model: "none", minP: 1.5 })],
  ["repetitionPenalty is 0; wanted", () => generate({ model: "none", repetitionPenalty: 0 })],
  ["presencePenalty is -3; wanted", () => generate({ model: "none", presencePenalty: -3 })],
  ["frequencyPenalty is 2.5; wanted", () => generate({ model: "none", frequencyPenalty: 2.5 })],
  ["A stop string is empty", () => generate({ model: "none", stop: ["a", ""] })],
  ["rounds is 0; wanted a whole number from 1", () => compare({ ...compared, rounds: 0 })],
  ["communicationShare is 1; wanted", () => compare({ ...compared, communicationShare: 1 })],
  ["batch is 0; wanted a whole number from 1", () => plan({ model: "tiny", batch: 0 })],
  ["efficiency is 5; wanted a number above 0, to 1", () => plan({ model: "tiny", efficiency: 5 })],
  ["steps is 0; wanted", () => plan({ model: "tiny", steps: 0 })],
  ["intraBytesPerMs is 0; wanted a number above 0", shapeless({ intraBytesPerMs: 0 })],
  ["nodes is 0.5; wanted a whole number", shapeless({ nodes: 0.5 })],
  [
    "devices_per_node: Too big: expected number to be <=65536",
    () => describeCluster({ ...LAB, devices_per_node: 1e6 }, "lab"),
  ],
  ["tflops: Too small: expected number to be >0", () => describeCluster({ ...LAB, tflops: 0 }, "lab")],
  [
    "latency_us: Too small: expected number to be >=0",
    () => describeCluster({ ...LAB, latency_us: -1 }, "lab"),
  ],
  [
    "ranks: Too big",
    () => parseCalibration({ format: "scmoe calibration 2", source: "", ranks: 1e6, flops_per_ms: {} }, "c"),
  ],
  ["at most 65536 devices", shapeless({ nodes: 65_536 })],
])("%s", async (message, call: () => unknown) => {
  const refused = await Promise.resolve()
    .then(call)
    .catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(InputError);
  expect((refused as Error).message).toContain(message);
  expect((refused as Error).message).not.toContain("\n");
});
