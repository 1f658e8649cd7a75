/** Layers of one model may differ: in heads, windows and widths of their parts. */
import { afterAll, expect, it } from "vitest";
import { singleCommunicator } from "../src/comm/single.js";
import { philox } from "../src/core/rng.js";
import type { Tensor } from "../src/core/tensor.js";
import type { Engine } from "../src/engine/engine.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { attention } from "../src/model/parts/attention.js";
import { mlp } from "../src/model/parts/feed-forward.js";
import { Wires } from "../src/model/wires.js";
import { Memory } from "../src/run/memory.js";
import { Session } from "../src/run/session.js";
import { Weights } from "../src/run/weights.js";
import { sequential } from "../src/schedule/sequential.js";
import { createReferenceEngine } from "./reference/engine.js";

const [WIDTH, BATCH, SEQUENCE] = [16, 2, 9];
const engines = [createOrtEngine(), createReferenceEngine()];
afterAll(() => engines.forEach((engine) => engine.dispose()));

const norm = { kind: "rms", width: WIDTH, eps: 1e-5 } as const;
const LAYERS = [
  { heads: 4, kvHeads: 2, headDim: 6, window: undefined, inner: 24 },
  { heads: 2, kvHeads: 2, headDim: 10, window: 3, inner: 40 },
].map(({ inner, ...shape }, layer) => ({
  attention: attention(
    { ...shape, width: WIDTH, bias: false, outBias: false, norm, rope: { theta: 100 } },
    { attention: `L${layer}.attention`, norm: `L${layer}.attention_norm` },
  ),
  mlp: mlp(
    { width: WIDTH, inner, kind: "swiglu", bias: false, norm },
    { mlp: `L${layer}.mlp`, norm: `L${layer}.mlp_norm` },
  ),
}));

function outputOf(engine: Engine, layers: typeof LAYERS): Float32Array {
  const wires = new Wires(WIDTH, { batch: BATCH, sequence: SEQUENCE, epSize: 1 });
  const input = wires.rows("input");
  let x = input;
  layers.forEach((parts, layer) => {
    const [attended, y] = [wires.rows(`L${layer}.attended`), wires.rows(`L${layer}.out`)];
    wires.part(`L${layer}.attention`, parts.attention, [SEQUENCE], {
      layer,
      inputs: { x },
      outputs: { y: attended },
    });
    wires.part(`L${layer}.mlp`, parts.mlp, [], { layer, inputs: { x: attended }, outputs: { y } });
    x = y;
  });
  const program = wires.builder.build("unlike layers");
  const parameters = layers.flatMap((parts) => [...parts.attention.parameters, ...parts.mlp.parameters]);
  const weights = new Weights(engine, parameters, { epRank: 0, epSize: 1 });
  weights.initialize(5, 0.4);
  const world = singleCommunicator();
  const services = { engine, memory: new Memory(engine), weights, world, ep: world, replicas: world };
  const data = new Float32Array(BATCH * SEQUENCE * WIDTH);
  philox(9, "input").fillNormal(data, 0, 1);
  const session = new Session(services, program, { keep: [x] });
  const run = session.run(sequential(program), new Map([[input, { data, dims: [BATCH * SEQUENCE, WIDTH] }]]));
  return run.read<Tensor<Float32Array>>(x).data.slice();
}

const distance = (a: Float32Array, b: Float32Array): number =>
  Math.hypot(...a.map((v, i) => v - b[i])) / Math.hypot(...b);

it("computes each layer with its own shapes", () => {
  const [found, wanted] = engines.map((engine) => outputOf(engine, LAYERS));
  expect(distance(found, wanted)).toBeLessThan(1e-5);
  // Each of them matters: the second after the first is not the first after the second.
  const swapped = outputOf(engines[0], LAYERS.toReversed());
  expect(distance(swapped, wanted)).toBeGreaterThan(0.01);
});
