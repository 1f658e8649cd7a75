/**
 * Predicts training steps on a cluster that you describe: which architecture, under which policy, and how much of the
 * communication stays exposed. Only `scmoe/plan` is needed, which runs in a browser as well.
 */
import assert from "node:assert/strict";
import { describeCluster, plan, speedChart } from "scmoe/plan";

const cluster = describeCluster(
  {
    name: "two nodes of four",
    nodes: 2,
    devices_per_node: 4,
    tflops: 312,
    memory_gb_per_s: 2039,
    intra_gb_per_s: 200,
    inter_gb_per_s: 12.5,
    latency_us: 20,
  },
  "the example",
);
const { rows, epSize } = plan({ model: "gpt2-moe-medium", cluster, batch: 8 });
console.log(`${cluster.name}, ${epSize} ranks share the experts`);
for (const { arch, policy, stepMs, exposedMs, speedUp } of rows)
  console.log(
    `${`${arch} ${policy}`.padEnd(28)} ${stepMs.toFixed(1)} ms, exposed ${exposedMs.toFixed(1)} ms, ${speedUp.toFixed(2)} ×`,
  );

const [baseline] = rows;
const best = rows.reduce((a, b) => (b.stepMs < a.stepMs ? b : a));
assert.ok(baseline !== undefined && baseline.arch === "top2" && baseline.speedUp === 1);
assert.match(best.arch, /^scmoe/);
assert.ok(best.exposedMs < baseline.exposedMs);
for (const row of rows) assert.ok(row.stepMs >= row.lowerBoundMs * (1 - 1e-9), `${row.arch} beats its bound`);
assert.match(speedChart(rows.map((row) => ({ ...row, mode: "train" }))), /^<svg/);
