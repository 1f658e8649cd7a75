/** What an engine will need, from the config alone. */
import { greatestDivisor } from "../core/divisor.js";
import { numElements } from "../core/tensor.js";
import { FORM_BITS, type WeightForm, quantisedBytes } from "../kernel/quantise.js";
import { localParameters } from "../model/buckets.js";
import type { ModelConfig } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";
import { listParameters } from "../model/parameters.js";
import type { ParameterInfo } from "../model/parts/part.js";
import { peaks } from "../run/inference-need.js";
import { type MemoryNeed, type RankPlaces, memoryNeed, rankBase } from "../run/memory-need.js";
import { peakMemory } from "../run/peak-memory.js";
import { sequential } from "../schedule/sequential.js";

/** A token of the tokenizer, on the process's own thread. */
const TOKEN_BYTES = 1500;

export interface EngineShape {
  readonly form: WeightForm;
  readonly slots: number;
  readonly contextLength: number;
  readonly chunk: number;
  readonly cacheBytes?: number | undefined;
}

/** @param of where the ranks are; `inProcess` 1 of 1: on the process's own thread */
export function engineNeed(config: ModelConfig, of: EngineShape & RankPlaces): MemoryNeed {
  const { form, slots, contextLength, chunk, cacheBytes = Infinity, ranks, inProcess } = of;
  const epSize = greatestDivisor(ranks, config.num_experts);
  const dropless: ModelConfig = { ...config, capacity_factor: null };
  const { program, symbols, output } = buildProgram(dropless, {
    ...{ batch: 1, sequence: Math.min(chunk, contextLength), cache: contextLength },
    ...{ epSize, ranks, head: "logits" },
  });
  const keep = new Set([output]);
  const { even, worst } = peaks((spread) =>
    peakMemory(program, sequential(program), { keep, symbols, spread }),
  );
  // The program's states are the cache of one sequence.
  const slotBytes = program.values.reduce((sum, { isState, bytes }) => sum + (isState ? bytes : 0), 0);
  const others = Math.min(slots * slotBytes, cacheBytes) - slotBytes;
  const rank = {
    weights: heldBytes(config, form, epSize),
    ...{ gradients: 0, moments: 0 },
    activations: even.bytes + others,
    graphBytes: even.engineBytes,
    base: rankBase(of, TOKEN_BYTES * config.vocab_size),
  };
  return memoryNeed(rank, { ranks: inProcess, worstActivations: worst.bytes + others });
}

/** Of the rank that has most. A head that is the embedding's table is held beside it. */
function heldBytes(config: ModelConfig, form: WeightForm, epSize: number): number {
  const parameters = localParameters(listParameters(config), { epRank: 0, epSize });
  const held = parameters.map((info) => (isTable(info) ? plainBytes(info) : bytesIn(form, info)));
  const table = parameters.find(isTable);
  if (config.tie_word_embeddings && table !== undefined) held.push(bytesIn(form, table));
  return held.reduce((sum, bytes) => sum + bytes, 0);
}

const isTable = ({ name }: ParameterInfo): boolean => /\.embed_(tokens|positions)\.weight$/.test(name);

const plainBytes = ({ dims }: ParameterInfo): number => numElements(dims) * 4;

function bytesIn(form: WeightForm, info: ParameterInfo): number {
  const bits = FORM_BITS[form];
  if (bits === undefined || info.dims.length !== 2) return plainBytes(info);
  const { packed, scales } = quantisedBytes(info.dims, bits);
  return packed + scales;
}
