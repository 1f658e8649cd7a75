import type { ModelConfig } from "./config.js";
import type { ParameterInfo } from "./parts/part.js";
import { structureOf } from "./structure.js";

/** The tensors of a model in storage order; what several parts read is listed with the first (names: method 10). */
export function listParameters(config: ModelConfig): readonly ParameterInfo[] {
  const { embedding, blocks, head } = structureOf(config);
  const all = [...embedding.parameters, ...blocks.flatMap((block) => block.parameters), ...head.parameters];
  const byName = new Map<string, ParameterInfo>();
  for (const info of all) if (!byName.has(info.name)) byName.set(info.name, info);
  return [...byName.values()];
}

/** Number of weights of a model. */
export interface ParameterCount {
  readonly total: number;
  /** Parameters one token uses: all but the routed experts it is not sent to. */
  readonly active: number;
}

export function countParameters(config: ModelConfig): ParameterCount {
  let total = 0;
  let routed = 0;
  for (const { dims, expert, buffer } of listParameters(config)) {
    if (buffer) continue;
    const size = dims.reduce((a, b) => a * b, 1);
    total += size;
    if (expert !== undefined) routed += size;
  }
  const choices = config.architecture.routed === "dual" ? 2 : config.topK;
  return { total, active: total - routed + (routed * choices) / Math.max(1, config.num_experts) };
}
