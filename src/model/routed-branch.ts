/** The routed part of an MoE sub-layer: gate → route → encode → dispatch → experts → combine, and decode. */
import { expertWork } from "../program/expert-work.js";
import type * as K from "../program/kinds.js";
import type { MoeParts } from "./structure.js";
import type { Wires } from "./wires.js";

/** How tokens choose their experts. */
export interface RoutingRule {
  readonly topK: number;
  /** Rows per expert = ceil(capacityFactor · topK · T / N); null: dropless. */
  readonly capacityFactor: number | null;
  /** Whether kept probabilities are renormalised to sum 1. */
  readonly renormalize: boolean;
  readonly scores: K.MoeShape["scores"];
  readonly scaling: number;
  readonly groups?: K.MoeShape["groups"];
  readonly numZeroExperts: number;
  readonly activeExperts: number;
  readonly balanceGroups?: K.MoeShape["balanceGroups"];
}

/** Where a branch begins, and what it is called. */
export interface BranchOptions {
  readonly layer: number;
  /** Unique: "L3"; operators of the branch begin with it. */
  readonly name: string;
  readonly rule: RoutingRule;
  /** The stream that the gate reads, [T, D]. */
  readonly source: number;
  /** Noise on the gate's logits, fed to the program. */
  readonly withNoise: boolean;
  /** DGMoE: the routing whose first choice this one avoids. */
  readonly avoid?: number;
}

/** A branch whose rows have come back from the experts. */
export interface RoutedBranch {
  readonly layer: number;
  readonly name: string;
  readonly shape: K.MoeShape;
  readonly routing: number;
  readonly weights: number;
  /** The gate's normalised rows, [T, D], where zero experts give them back. */
  readonly identity?: number | undefined;
  /** Combined rows, one value per chunk. */
  readonly rows: readonly number[];
}

/** gate → route → encode → dispatch → experts → combine, rows split into chunks. */
export function routedBranch(wires: Wires, moe: MoeParts, options: BranchOptions): RoutedBranch {
  const { layer, name: branch, rule, avoid } = options;
  const { builder, tokens: T } = wires;
  const N = moe.numExperts;
  const numLogits = N + rule.numZeroExperts;
  const at = { layer, branch };
  const [xn, logits] = [wires.rows(`${branch}.xn`), builder.value(`${branch}.logits`, T * numLogits * 4)];
  const inputs: Record<string, number> = { x: options.source };
  if (options.withNoise) {
    inputs.noise = builder.value(`${branch}.noise`, T * numLogits * 4);
    wires.noise.push(inputs.noise);
  }
  wires.part(`${branch}.gate`, moe.gate, [options.withNoise], { ...at, inputs, outputs: { xn, logits } });

  const shape: K.MoeShape = {
    layer,
    numExperts: N,
    ...rule,
    selectionBias: moe.gate.selectionBias,
    width: wires.width,
    epSize: wires.options.epSize,
    wire: wires.options.wire ?? "f32",
  };
  const routing = builder.value(`${branch}.routing`, T * shape.topK * 8);
  const weights = builder.value(`${branch}.weights`, T * shape.topK * 4);
  builder.add({
    ...at,
    name: `${branch}.route`,
    kind: "route",
    reads: avoid === undefined ? [logits] : [logits, avoid],
    writes: [routing, weights],
    // Logits, probabilities and scores, read and written.
    work: { class: "route", flops: 0, bytes: 16 * T * numLogits },
    data: { shape, logits, avoid, routing, weights },
  });
  const chunks = wires.options.chunks ?? 1;
  const rows = Array.from({ length: chunks }, (_, chunk) =>
    throughExperts(wires, moe, { ...at, shape, routing, xn, chunk, chunks }),
  );
  const identity = rule.numZeroExperts > 0 ? xn : undefined;
  return { layer, name: branch, shape, routing, weights, identity, rows };
}

/** One chunk's way to the experts and back. @returns the value of the rows that came back */
function throughExperts(
  wires: Wires,
  moe: MoeParts,
  c: K.ChunkData & {
    readonly layer: number;
    readonly branch: string;
    readonly routing: number;
    readonly xn: number;
  },
): number {
  const { shape, routing, xn, chunk, chunks, layer, branch } = c;
  const { builder } = wires;
  const rows = Math.ceil(wires.tokens / chunks) * shape.topK;
  const rowBytes = shape.width * (shape.wire === "bf16" ? 2 : 4);
  const label = (part: string) => `${branch}.${chunks === 1 ? part : `${part}.${chunk}`}`;
  // In memory rows are f32 on any wire.
  const value = (part: string) => builder.value(label(part), rows * shape.width * 4);
  const common = { layer, branch, chunk: chunks === 1 ? undefined : chunk };
  const facts: K.ChunkData = { shape, chunk, chunks };
  const evenRows = (wires.tokens * shape.activeExperts) / chunks;
  const transfer = (of: "dispatch" | "combine", input: number, output: number): void => {
    const isDispatch = of === "dispatch";
    builder.add({
      ...common,
      name: label(of),
      kind: "transfer",
      reads: isDispatch ? [input, routing] : [input, routing, counts],
      writes: isDispatch ? [output, counts] : [output],
      work: {
        class: of,
        rows: evenRows,
        flops: 0,
        bytes: (evenRows * rowBytes * (shape.epSize - 1)) / shape.epSize,
      },
      data: {
        ...facts,
        direction: isDispatch ? "to-experts" : "to-tokens",
        bringsCounts: isDispatch,
        routing,
        counts,
        input,
        output,
      },
    });
  };

  const send = value("send");
  builder.add({
    ...common,
    name: label("encode"),
    kind: "encode",
    reads: [xn, routing],
    writes: [send],
    work: { class: "encode", rows: evenRows, flops: 0, bytes: 2 * evenRows * shape.width * 4 },
    data: { ...facts, input: xn, routing, send },
  });
  const arrived = value("arrived");
  const counts = builder.value(label("counts"), shape.numExperts * 4);
  transfer("dispatch", send, arrived);
  const results = value("results");
  const kernel = wires.kernelOf(moe.experts, []);
  builder.add({
    ...common,
    name: label("expert"),
    kind: "expert",
    reads: [arrived, counts],
    writes: [results],
    work: expertWork(kernel, { rows: evenRows, shape }),
    data: { ...facts, kernel, parameters: moe.experts.spans, arrived, counts, output: results },
  });
  const back = value("back");
  transfer("combine", results, back);
  return back;
}

/**
 * Adds a branch's rows to a stream, weighted.
 * @param base the stream, [T, D]; `scale` a coefficient per token, [T, 1]
 * @returns the value of the sum
 */
export function decodeBranch(
  wires: Wires,
  branch: RoutedBranch,
  to: { readonly layer: number; readonly base: number; readonly scale?: number },
): number {
  const { shape, routing, weights, identity, rows, name } = branch;
  const { layer, base, scale } = to;
  const output = wires.rows(`${name}.out`);
  const numRead = shape.activeExperts + (identity === undefined ? 0 : 1);
  wires.builder.add({
    name: `${name}.decode`,
    kind: "decode",
    layer,
    branch: name,
    reads: [routing, weights, ...rows, base, ...[scale, identity].filter((value) => value !== undefined)],
    writes: [output],
    work: { class: "decode", flops: 0, bytes: (numRead + 2) * wires.tokens * shape.width * 4 },
    data: { shape, chunks: rows.length, routing, weights, rows, base, scale, identity, output },
  });
  return output;
}
