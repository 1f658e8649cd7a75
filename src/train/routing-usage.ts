/** How a model routes some text: which experts take its rows, and how much weight they have. */
import { sumScalars } from "../comm/collectives.js";
import type { Tensor } from "../core/tensor.js";
import { trainBatch } from "../data/batches.js";
import type { TokenFile } from "../data/token-file.js";
import type { ModelConfig } from "../model/config.js";
import type { RoutingUsage } from "../model/convert/start.js";
import { buildProgram } from "../model/language-model.js";
import type { RoutingValue } from "../run/actions/gate.js";
import { route } from "../run/moe/routing.js";
import type { Rank } from "../run/rank.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { feedBatch } from "./micro-batch.js";

export interface UsageShape {
  readonly sequence: number;
  /** Sequences per rank at a time, and how often. */
  readonly batch: number;
  readonly batches: number;
  readonly endOfText?: number | undefined;
}

/**
 * Routes text through a model without dropping anything; all ranks together.
 * @param target whose choice among the same logits is measured, too
 * @returns by layer; empty where the model routes nothing
 */
export function routingUsage(
  rank: Rank,
  file: TokenFile,
  { target, ...shape }: UsageShape & { readonly target: ModelConfig },
): Map<number, RoutingUsage> {
  const { batch, sequence, batches, endOfText } = shape;
  const options = {
    batch,
    sequence,
    epSize: rank.ep.size,
    head: "losses",
    documents: endOfText !== undefined,
  } as const;
  const model = buildProgram({ ...rank.config, capacity_factor: null }, options);
  const { routings } = model;
  if (routings.length === 0) return new Map();
  const ofTarget = new Map(
    buildProgram({ ...target, capacity_factor: null }, options).routings.map(({ layer, data }) => [
      layer,
      data.shape,
    ]),
  );
  const keep = routings.flatMap(({ data }) => [data.routing, data.logits, data.weights]);
  const session = new Session(rank, model.program, { keep });
  const schedule = sequential(model.program);
  const sums = routings.map(({ data }) => new Float64Array(data.shape.numExperts + 3));
  for (let b = 0; b < batches; b++) {
    const dealt = { batch, sequence, ranks: rank.world.size, seed: 0, endOfText };
    const position = b * batch * rank.world.size;
    const taken = trainBatch(file, dealt, { position, micro: 0, rank: rank.world.rank });
    const feeds = feedBatch(rank, model, taken, { step: 0, seed: 0, share: 1, scales: { balance: 0, z: 0 } });
    const run = session.run(schedule, feeds.values);
    routings.forEach(({ layer, data }, i) => {
      const { load, numTokens } = run.read<RoutingValue>(data.routing).routing;
      const logits = run.read<Tensor<Float32Array>>(data.logits).data;
      const shapeOfTarget = ofTarget.get(layer) ?? data.shape;
      const wanted = new Float32Array(numTokens * shapeOfTarget.topK);
      const { selectionBias: name } = data.shape;
      const selectionBias = name === undefined ? undefined : rank.weights.buffers.get(name)?.data;
      route(logits, wanted, { shape: shapeOfTarget, selectionBias });
      const N = load.length;
      load.forEach((rows, e) => (sums[i][e] += rows));
      sums[i][N] += sumOf(run.read<Tensor<Float32Array>>(data.weights).data);
      sums[i][N + 1] += sumOf(wanted);
      sums[i][N + 2] += numTokens;
    });
    run.release();
    feeds.release();
  }
  const totals = sumScalars(
    rank.world,
    sums.flatMap((row) => [...row]),
    "routing usage",
  );
  return new Map(
    routings.map(({ layer }, i) => {
      const row = totals.splice(0, sums[i].length);
      const [weight, targetWeight, tokens] = row.slice(-3);
      return [
        layer as number,
        { rows: row.slice(0, -3), weight: weight / tokens, targetWeight: targetWeight / tokens },
      ];
    }),
  );
}

function sumOf(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
