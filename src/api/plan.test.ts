import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { madeUpOperator } from "../../test/operators.js";
import { resolveModel } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import { preset } from "../model/presets.js";
import { buildTrainingProgram } from "../model/training-program.js";
import { analyticCosts } from "../simulate/analytic.js";
import { type Calibration, type MeasuredWork, calibrate, measuredWork } from "../simulate/calibration.js";
import { unevenLoads } from "../simulate/cluster-network.js";
import { CLUSTERS, cluster } from "../simulate/clusters.js";
import { findCluster, readCalibration } from "../cli/plan-files.js";
import { plan } from "./plan.js";
import { type PlanOptions, withDefaults } from "./plan-question.js";

const directory = mkdtempSync(join(tmpdir(), "scmoe-plan-"));
function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

const { arch: _arch, ...small } = preset("gpt2-moe-small");
const A30 = cluster("8xA30-PCIe");
const base: PlanOptions = {
  model: preset("gpt2-moe-small"),
  cluster: A30,
  cases: [
    "top2:sequential",
    "top2:pipelined(2)",
    "shared:sequential",
    "scmoe-pos2:adaptive",
    "scmoe-pos3:adaptive",
  ].map((text) => ({ arch: text.split(":")[0], policy: text.split(":")[1] })),
  batch: 8,
  sequence: 1024,
  epSize: 8,
  mode: "train",
  imbalance: 1,
  steps: 3,
  elementBytes: 2,
};

/** Of the gradients that all ranks have. */
function replicatedBytes(arch: string): number {
  const replicated = listParameters(resolveModel({ ...small, arch })).filter((p) => p.expert === undefined);
  return replicated.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 2), 0);
}

describe("plan()", () => {
  it("orders the architectures as the paper does, on every cluster", () => {
    for (const described of CLUSTERS) {
      const model = { ...preset("gpt2-moe-small"), num_hidden_layers: 6 };
      const { rows } = plan({ ...base, model, cluster: described });
      const [top2, pipelined, shared, pos2, pos3] = rows.map((row) => row.stepMs);
      expect(pipelined).toBeLessThan(top2);
      expect(pos2).toBeLessThan(shared);
      expect(pos2).toBeLessThan(pipelined);
      expect(pos3).toBeLessThanOrEqual(pos2 * 1.02);
      for (const row of rows) expect(row.stepMs).toBeGreaterThanOrEqual(row.lowerBoundMs * (1 - 1e-9));
      expect(rows[3].placement).toMatch(/^expert forward .*slot \d of 4/);
    }
  });

  it("splits rows into chunks where the link is too slow for the window, and only there", () => {
    const { intraBytesPerMs, ...rest } = A30;
    const at = (factor: number): string =>
      plan({ ...base, cluster: { ...rest, intraBytesPerMs: factor * intraBytesPerMs } }).rows[3].policy;
    expect(at(2)).toBe("adaptive");
    expect(at(0.2)).toMatch(/^adaptive\([24]\)$/);
  });

  it("says of training what the reduction of gradients adds, which a forward pass does not have", () => {
    const cases = [{ arch: "shared", policy: "sequential" }];
    const [trained] = plan({ ...base, cases }).rows;
    const [forward] = plan({ ...base, cases, mode: "forward" }).rows;
    const { intraBytesPerMs, linkEfficiency } = A30;
    // Slices to their owners and back, each rank all but its own; experts have no other copy.
    const sentMs = (2 * replicatedBytes("shared") * (7 / 8)) / (intraBytesPerMs * linkEfficiency);
    expect((trained.reducedMs as number) - trained.stepMs).toBeGreaterThan(sentMs);
    expect((trained.reducedMs as number) - trained.stepMs).toBeLessThan(1.5 * sentMs);
    expect(forward.reducedMs).toBeUndefined();
  });

  it("refuses an operator that the cluster says nothing about, by name", () => {
    const costs = analyticCosts({ cluster: A30, elementBytes: 2, ranks: 8 });
    const load = madeUpOperator(0, { name: "L3.load", stream: "storage", reads: [], writes: [] });
    expect(() => costs(load)).toThrow(
      "No cost is known of L3.load: 8xA30-PCIe does not say how fast its storage is",
    );
  });

  it("advises the number of chunks that is fastest by its own prediction", () => {
    const cases = ["adaptive", "adaptive(1)", "adaptive(2)"].map((policy) => ({
      arch: "scmoe-pos2",
      policy,
    }));
    for (const linkEfficiency of [0.9, 0.6, 0.12]) {
      const { rows } = plan({ ...base, cases, cluster: { ...A30, linkEfficiency } });
      const [advised, ...others] = rows.map(({ stepMs }) => stepMs);
      expect(others[0], `at ${linkEfficiency}`).not.toBe(others[1]);
      expect(advised, `at ${linkEfficiency}`).toBeCloseTo(Math.min(...others), 9);
    }
  });

  it("says what a rank needs: 16 bytes per weight in two-byte training, activations by tokens, and whether it fits", () => {
    const cases = [{ arch: "shared", policy: "sequential" }];
    const at = (more: Partial<PlanOptions>) => plan({ ...base, cases, ...more }).rows[0];
    const { parameters } = withDefaults(base).modelOf("shared");
    const elements = (list: typeof parameters): number =>
      list.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0);
    const [experts, replicated] = [true, false].map((isExpert) =>
      elements(parameters.filter(({ expert }) => (expert !== undefined) === isExpert)),
    );
    const local = replicated + experts / 8;
    const { memory, fits } = at({});
    expect([memory.weights, memory.gradients, memory.optimizer]).toEqual([2 * local, 2 * local, 12 * local]);
    expect(fits).toBe(true);
    expect(at({ zero: true }).memory.optimizer / (12 * (replicated / 8 + experts / 8))).toBeCloseTo(1, 5);
    expect(at({ batch: 16 }).memory.activations / memory.activations).toBeCloseTo(2, 2);
    expect(at({ recompute: true }).memory.activations).toBeLessThan(0.5 * memory.activations);
    expect(at({ mode: "forward" }).memory).toMatchObject({ gradients: 0, optimizer: 0 });
    const total = Object.entries(memory).reduce((sum, [part, b]) => (part === "total" ? sum : sum + b), 0);
    expect(memory.total).toBeCloseTo(total, 0);
  });

  it("says of what does not fit what would, by itself or all at once, and nothing where the memory is unknown", () => {
    const cases = [{ arch: "shared", policy: "sequential" }];
    const at = (memoryBytes: number | undefined) =>
      plan({ ...base, cases, epSize: 2, cluster: { ...A30, memoryBytes } }).rows[0];
    const { total, optimizer } = at(undefined).memory;
    expect(at(undefined)).toMatchObject({ fits: undefined, remedies: undefined });
    expect(at(total / 0.9)).toMatchObject({ fits: true, remedies: undefined });
    const tight = at((total - 1) / 0.9);
    expect(tight.fits).toBe(false);
    expect(tight.remedies?.map(({ change }) => change)).toEqual([
      { batch: 4 },
      { recompute: true },
      { zero: true },
      { epSize: 4 },
    ]);
    for (const { fits, bytes } of tight.remedies ?? []) {
      expect(fits).toBe(true);
      expect(bytes).toBeLessThan(total);
    }
    const [all] = at(optimizer / 4).remedies ?? [];
    expect(all).toMatchObject({ fits: false, change: { batch: 1, recompute: true, zero: true, epSize: 8 } });
  });

  it("takes longer when experts are uneven", () => {
    const [balanced, uneven] = [1, 2].map((imbalance) => plan({ ...base, imbalance }).rows[3].stepMs);
    expect(uneven).toBeGreaterThan(balanced * 1.05);
  });
});

describe("unevenLoads()", () => {
  it("keeps the total, has one busiest rank, and differs by layer and step", () => {
    const loadOf = unevenLoads(8, 2, { seed: 0, step: 0 });
    const layers = Array.from({ length: 16 }, (_, layer) => loadOf(layer));
    for (const load of layers) {
      expect(load.reduce((a, b) => a + b, 0)).toBeCloseTo(8, 9);
      expect(Math.max(...load)).toBe(2);
    }
    expect(new Set(layers.map((load) => load.indexOf(2))).size).toBeGreaterThan(3);
    expect(unevenLoads(8, 2, { seed: 0, step: 1 })(0)).not.toEqual(layers[0]);
    expect(unevenLoads(8, 2, { seed: 0, step: 0 })(0)).toEqual(layers[0]);
  });
});

describe("calibration", () => {
  const truth: Calibration = {
    format: "scmoe calibration 2",
    source: "invented",
    ranks: 8,
    flops_per_ms: {
      attention: 3e7,
      "attention'": 2.4e7,
      mlp: 5e7,
      "mlp'": 4.8e7,
      shared: 4.5e7,
      "shared'": 4.1e7,
      expert: 4e7,
      "expert'": 3.9e7,
      gate: 1e7,
      "gate'": 0.9e7,
      head: 6e7,
      "head'": 6.3e7,
    },
    memory_bytes_per_ms: 2e6,
    link: { bytes_per_ms: 2e4, latency_ms: 0.5 },
  };

  /** What `bench compare` would measure on a machine with those constants. */
  function measured(arch: string): MeasuredWork[] {
    const config = resolveModel({ ...small, arch });
    const described = {
      ...cluster("8xA800-NVLink"),
      devicesPerNode: 1,
      nodes: 8,
      interBytesPerMs: 2e4,
      linkEfficiency: 1,
      latencyMs: 0.5,
    };
    const { program } = buildTrainingProgram(config, { batch: 2, sequence: 1024, epSize: 8 });
    const of = analyticCosts({ cluster: described, calibration: truth, elementBytes: 4, ranks: 8 });
    return measuredWork(program, Object.fromEntries(program.operators.map((op) => [op.cost, of(op)])));
  }

  it("finds the constants that the measured costs follow from", () => {
    const facts = { source: "invented", ranks: 8 };
    const found = calibrate([...measured("top2"), ...measured("scmoe-pos2")], facts);
    expect(Object.keys(found.flops_per_ms).sort()).toEqual(Object.keys(truth.flops_per_ms).sort());
    for (const [name, rate] of Object.entries(truth.flops_per_ms))
      expect(found.flops_per_ms[name] / rate, name).toBeCloseTo(1, 6);
    expect(found.memory_bytes_per_ms).toBeCloseTo(2e6, 0);
    expect(found.link?.bytes_per_ms).toBeCloseTo(2e4, 3);
    expect(found.link?.latency_ms).toBeCloseTo(0.5, 6);
    // What was written is what is read.
    expect(readCalibration(file("c.json", JSON.stringify(found)))).toEqual(found);
  });

  it("says of a calibrated machine what a rank needs, in f32, but not whether it has that", () => {
    const cases = [{ arch: "shared", policy: "sequential" }];
    const { rows } = plan({ model: base.model, sequence: 1024, cases, calibration: truth });
    const { fits, memory } = rows[0];
    expect(fits).toBeUndefined();
    expect(memory.optimizer / memory.weights).toBe(2);
  });

  it("refuses files that are not one, naming the key", () => {
    const bad = file("bad.json", JSON.stringify({ ...truth, flop_per_ms: {} }));
    expect(() => readCalibration(bad)).toThrow(
      /bad\.json: unknown key "flop_per_ms"; did you mean "flops_per_ms"/,
    );
    expect(() => readCalibration(file("empty.json", ""))).toThrow(/empty\.json is not JSON/);
    expect(() => readCalibration(join(directory, "none.json"))).toThrow(/none\.json: it does not exist/);
  });
});

describe("clusters", () => {
  it("have any number of nodes of eight: links within, and between", () => {
    expect(cluster("128x8xB200-IB")).toMatchObject({
      nodes: 128,
      devicesPerNode: 8,
      memoryBytes: 180e9,
      intraBytesPerMs: 9e8,
      interBytesPerMs: 5e7,
    });
    expect(cluster("8xH200")).toMatchObject({ nodes: 1, memoryBytes: 141e9, interBytesPerMs: 4.5e8 });
    for (const name of ["0x8xH100-IB", "8xZ9", "4x4xH100", "8xconstructor1"])
      expect(() => cluster(name)).toThrow(/Unknown cluster/);
  });

  it("sum gradients within nodes first: between nodes each device takes its own part", () => {
    const grads = 2 * replicatedBytes("shared");
    const cases = [{ arch: "shared", policy: "sequential" }];
    // A link between nodes that everything waits for.
    const slow = { ...cluster("4x8xH100-IB"), interBytesPerMs: 1e4, linkEfficiency: 1 };
    const { rows } = plan({ ...base, cases, cluster: slow, epSize: 8 });
    const experts = withDefaults(base)
      .modelOf("shared")
      .parameters.filter(({ expert }) => expert !== undefined)
      .reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 2), 0);
    // An eighth of the replicated gradients; a rank's experts, which no other of its node has.
    const sent = (grads / 8 + (2 * experts) / 8) * (3 / 4);
    const added = (rows[0].reducedMs as number) - rows[0].stepMs;
    expect(added / (sent / 1e4)).toBeCloseTo(1, 2);
  });
});

describe("findCluster()", () => {
  it("reads a description in data-sheet units", () => {
    const text =
      "devices_per_node: 4\nnodes: 2\ntflops: 100\nmemory_gb_per_s: 900\nmemory_gb: 40\nintra_gb_per_s: 30\nuplink_gb_per_s: 5\n";
    expect(findCluster(file("lab.yaml", text))).toMatchObject({
      nodes: 2,
      devicesPerNode: 4,
      flopsPerMs: 1e11,
      memoryBytesPerMs: 9e8,
      memoryBytes: 40e9,
      intraBytesPerMs: 3e7,
      interBytesPerMs: 3e7,
      uplinkBytesPerMs: 5e6,
      latencyMs: 0.02,
    });
  });

  it("refuses unknown names and keys with a suggestion", () => {
    expect(() => findCluster("8xA100")).toThrow(/Unknown cluster "8xA100"/);
    expect(() => findCluster(file("typo.yaml", "device_per_node: 4\n"))).toThrow(/typo\.yaml/);
  });
});
