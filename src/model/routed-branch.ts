/** The routed part of an MoE sub-layer: gate → route → encode → dispatch → expert → combine, and decode. */
import type * as K from "../program/kinds.js";
import * as spans from "./spans.js";
import type { Wires } from "./wires.js";

export interface RoutedBranch {
  readonly layer: number;
  readonly tag: string;
  readonly shape: K.MoeShape;
  readonly routing: number;
  readonly weights: number;
  /** Combined rows, one value per chunk. */
  readonly rows: readonly number[];
}

/** gate → route → encode → dispatch → expert → combine, rows split into chunks. */
export function routedBranch(
  wires: Wires,
  layer: number,
  source: number,
  how: { norm: "current" | "shortcut"; tag: string; avoid?: number },
): RoutedBranch {
  const { config, options } = wires;
  const T = wires.tokensPerRank;
  const [D, N] = [config.hidden_size, config.num_experts];
  const name = (part: string) => `L${layer}${how.tag}.${part}`;
  const noisy = config.gate_noise && options.mode === "train";
  const [xn, logits] = [wires.stream(name("xn")), wires.builder.value(name("logits"), T * N * 4)];
  const inputs: Record<string, number> = { x: source };
  if (noisy) {
    inputs.noise = wires.builder.value(name("noise"), T * N * 4);
    wires.noise.push(inputs.noise);
  }
  wires.kernel(name("gate"), "gate", wires.kernels.gate, {
    layer,
    inputs,
    outputs: { xn, logits },
    parameters: spans.gateSpans(config, layer, how.norm, noisy),
  });

  const shape: K.MoeShape = {
    layer,
    numExperts: N,
    topK: config.topK,
    capacityFactor: config.capacity_factor,
    renormalize: config.topK > 1 && config.norm_topk_prob,
    selectionBias: spans.selectionBias(config, layer),
    width: D,
    epSize: options.epSize,
    wire: options.wire ?? "f32",
  };
  const routing = wires.builder.value(name("routing"), T * shape.topK * 8);
  const weights = wires.builder.value(name("weights"), T * shape.topK * 4);
  const route: K.RouteData = {
    shape,
    logits,
    avoid: how.avoid,
    routing,
    weights,
    lossShare: 1 / wires.numRoutings,
    index: wires.routings.length,
  };
  wires.routings.push(route);
  wires.builder.add({
    name: name("route"),
    kind: "route",
    layer,
    reads: how.avoid === undefined ? [logits] : [logits, how.avoid],
    writes: [routing, weights],
    cost: "route",
    data: route,
  });
  const chunks = options.chunks ?? 1;
  const rows = Array.from({ length: chunks }, (_, chunk) =>
    transferChunk(wires, layer, { name, shape, routing, xn, chunk, chunks }),
  );
  return { layer, tag: how.tag, shape, routing, weights, rows };
}

function transferChunk(
  wires: Wires,
  layer: number,
  c: {
    name: (part: string) => string;
    shape: K.MoeShape;
    routing: number;
    xn: number;
    chunk: number;
    chunks: number;
  },
): number {
  const { shape, routing, chunk, chunks } = c;
  const rowBytes = shape.width * (shape.wire === "bf16" ? 2 : 4);
  const maxBytes = Math.ceil(wires.tokensPerRank / chunks) * shape.topK * rowBytes;
  const label = (part: string) => c.name(chunks === 1 ? part : `${part}.${chunk}`);
  const value = (part: string) => wires.builder.value(label(part), maxBytes);
  const common = { layer, chunk: chunks === 1 ? undefined : chunk };
  const facts: K.ChunkData = { shape, chunk, chunks };

  const send = value("send");
  wires.builder.add({
    name: label("encode"),
    kind: "encode",
    ...common,
    reads: [c.xn, routing],
    writes: [send],
    cost: "encode",
    data: { ...facts, input: c.xn, routing, send } satisfies K.EncodeData,
  });
  const arrived = value("arrived");
  const counts = wires.builder.value(label("counts"), shape.numExperts * 4);
  wires.builder.add({
    name: label("dispatch"),
    kind: "transfer",
    stream: "network",
    ...common,
    reads: [send, routing],
    writes: [arrived, counts],
    cost: "dispatch",
    data: {
      ...facts,
      direction: "to-experts",
      bringsCounts: true,
      routing,
      counts,
      input: send,
      output: arrived,
    } satisfies K.TransferData,
  });
  const results = value("results");
  const saved = wires.builder.value(label("saved"), maxBytes * 4);
  wires.builder.add({
    name: label("expert"),
    kind: "expert",
    ...common,
    reads: [arrived, counts],
    writes: [results, saved],
    cost: "expert",
    data: {
      ...facts,
      kernel: wires.kernels.expert,
      parameters: spans.expertSpans(wires.config, layer),
      arrived,
      counts,
      output: results,
      saved,
    } satisfies K.ExpertData,
  });
  const back = value("back");
  wires.builder.add({
    name: label("combine"),
    kind: "transfer",
    stream: "network",
    ...common,
    reads: [results, routing, counts],
    writes: [back],
    cost: "combine",
    data: {
      ...facts,
      direction: "to-tokens",
      bringsCounts: false,
      routing,
      counts,
      input: results,
      output: back,
    } satisfies K.TransferData,
  });
  return back;
}

/** Adds a branch's rows to a stream, weighted. @returns the value of the sum */
export function decodeBranch(
  wires: Wires,
  layer: number,
  branch: RoutedBranch,
  base: number,
  scale: number | undefined,
): number {
  const output = wires.stream(`L${layer}${branch.tag}.out`);
  const { shape, routing, weights, rows } = branch;
  const reads = [routing, weights, ...rows, base];
  if (scale !== undefined) reads.push(scale);
  wires.builder.add({
    name: `L${layer}${branch.tag}.decode`,
    kind: "decode",
    layer,
    reads,
    writes: [output],
    cost: "decode",
    data: {
      shape,
      chunks: rows.length,
      routing,
      weights,
      rows,
      base,
      scale,
      output,
    } satisfies K.DecodeData,
  });
  return output;
}
