import { philox } from "../../core/rng.js";
import type { Tensor } from "../../core/tensor.js";
import { route } from "../moe/routing.js";
import { routeGradient } from "../moe/routing-gradient.js";
import { numLogits } from "../moe/balance-classes.js";
import { type TokenSide, tokenSide } from "../moe/layout.js";
import type { Routing } from "../moe/routing.js";
import type { BalanceStatistics } from "../moe/statistics.js";
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

export function bindRouteBackward({ data }: OperatorOf<"route'">): Run {
  const { shape, index, numRoutings, statistics } = data;
  const lossShare = 1 / numRoutings;
  return computing((context) => {
    const { routing } = context.read<RoutingValue>(data.routing);
    const scales = context.read<K.LossScales>(data.scales);
    const out = context.writeTensor(data.dLogits, [routing.numTokens, numLogits(shape)]);
    const summed = statistics === undefined ? undefined : context.read<BalanceStatistics>(statistics);
    routeGradient(out.data, context.tensor(data.dWeights).data, routing, shape, {
      // Summed statistics have one balance loss, not a mean over pieces: the scale's share for that mean is taken out again.
      balanceScale: scales.balance * lossShare * (summed?.pieces ?? 1),
      zScale: scales.z * lossShare,
      counted:
        summed === undefined ? undefined : { counted: summed.counted[index], numTokens: summed.numTokens },
    });
  });
}

/** Standard normal noise for one routing of some tokens of a step, the same however the step is cut. */
export function gateNoise(
  out: Tensor<Float32Array>,
  key: { seed: number; step: number; index: number; firstToken: number },
): void {
  const [, N] = out.dims;
  const stream = philox(key.seed, `gate noise ${key.step} ${key.index}`);
  stream.fillNormal(out.data, key.firstToken * N, 1);
}
