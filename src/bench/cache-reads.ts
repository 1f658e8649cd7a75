/** Bytes of cache that a step of decode reads. */
import { type CacheLayer, rowBytes } from "../infer/cache/kv-cache-size.js";
import type { ModelConfig } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";

interface ReadLayer extends CacheLayer {
  /** Rows that it looks back at most, its own included. */
  readonly window: number;
}

/** @returns bytes that attention reads for one new row of a sequence which then has so many */
export function cacheReads(config: ModelConfig): (rows: number) => number {
  const layers = readLayers(config);
  return (rows) => layers.reduce((sum, layer) => sum + rowBytes([layer]) * Math.min(rows, layer.window), 0);
}

function readLayers(config: ModelConfig): readonly ReadLayer[] {
  const { sliding_window: window, sliding_window_layers: windowed } = config;
  const { cache } = buildProgram(config, { batch: 1, sequence: 1, epSize: 1, head: "logits", cache: 1 });
  return (cache?.blocks ?? []).map(({ layer, heads, width, values }) => ({
    heads,
    width,
    tensors: values === undefined ? 1 : 2,
    window: window !== null && (windowed?.includes(layer) ?? true) ? window : Infinity,
  }));
}
