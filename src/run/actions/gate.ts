import { philox } from "../../core/rng.js";
import type { Tensor } from "../../core/tensor.js";
import { route, routeGradient } from "../moe/routing.js";
import { type TokenSide, tokenSide } from "../moe/layout.js";
import type { Routing } from "../moe/routing.js";
import type * as K from "../../program/kinds.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type Services, computing } from "../context.js";

/** What a routing value holds: the routing and, made when first asked for, the row layout of each chunk. */
export interface RoutingValue {
  readonly routing: Routing;
  readonly side: (shape: K.MoeShape, chunk: number, chunks: number) => TokenSide;
}

export function routingValue(routing: Routing): RoutingValue {
  const sides = new Map<string, TokenSide>();
  return {
    routing,
    side(shape, chunk, chunks) {
      const key = `${chunk}/${chunks}`;
      let side = sides.get(key);
      if (side === undefined) sides.set(key, (side = tokenSide(routing, shape, chunk, chunks)));
      return side;
    },
  };
}

export function bindRoute({ data }: OperatorOf<"route">, { weights }: Services): Run {
  const { shape } = data;
  const selectionBias =
    shape.selectionBias === undefined ? undefined : weights.buffers.get(shape.selectionBias)?.data;
  return computing((context) => {
    const logits = context.tensor(data.logits);
    const kept = context.writeTensor(data.weights, [logits.dims[0], shape.topK]);
    const routing = route(logits.data, kept.data, {
      shape,
      selectionBias,
      avoid: data.avoid === undefined ? undefined : context.read<RoutingValue>(data.avoid).routing,
    });
    context.write(data.routing, routingValue(routing), []);
  });
}

/** Statistics summed over ranks: [routings][first choices [N], rows per expert [N]], and the number of tokens. */
export interface GlobalStatistics {
  readonly firstChoices: readonly Float32Array[];
  readonly load: readonly Float32Array[];
  readonly probabilitySums: readonly Float32Array[];
  readonly numTokens: number;
}

export function bindRouteBackward({ data }: OperatorOf<"route'">, { world }: Services): Run {
  const { shape, index, numRoutings, statistics } = data;
  const lossShare = 1 / numRoutings;
  return computing((context) => {
    const { routing } = context.read<RoutingValue>(data.routing);
    const scales = context.read<K.LossScales>(data.scales);
    const out = context.writeTensor(data.dLogits, [routing.numTokens, routing.numExperts]);
    const summed = statistics === undefined ? undefined : context.read<GlobalStatistics>(statistics);
    // With global statistics there is one balance loss for all ranks, not a mean over ranks. The scale holds 1/R for that mean,
    // so it is taken out again.
    const ranks = summed === undefined ? 1 : world.size;
    routeGradient(out.data, context.tensor(data.dWeights).data, routing, shape, {
      balanceScale: scales.balance * lossShare * ranks,
      zScale: scales.z * lossShare,
      global:
        summed === undefined
          ? undefined
          : { firstChoices: summed.firstChoices[index], numTokens: summed.numTokens },
    });
  });
}

/** Standard normal noise for one routing of one micro-batch, the same for any number of ranks. */
export function gateNoise(
  out: Tensor<Float32Array>,
  key: { seed: number; step: number; microBatch: number; index: number; firstToken: number },
): void {
  const [, N] = out.dims;
  const stream = philox(key.seed, `gate noise ${key.step} ${key.microBatch} ${key.index}`);
  stream.fillNormal(out.data, key.firstToken * N, 1);
}
