/**
 * Weights that are read when an operator asks for them, and kept by its kernel alone: loading a model takes little more memory
 * than the model in the form held.
 */
import { assert } from "../core/errors.js";
import { collectGarbage } from "../core/garbage.js";
import { numElements } from "../core/tensor.js";
import type { Arena } from "../engine/arena.js";
import type { Engine, Executable } from "../engine/engine.js";
import { type QuantisedMatrix, emptyMatrix, quantiseRows } from "../kernel/quantise.js";
import { type BucketLayout, localParameters } from "../model/buckets.js";
import type { ModelConfig } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { ParameterSpan } from "../program/kinds.js";
import type { WeightSource } from "../storage/weight-source.js";
import { ARENA_BYTES } from "./memory.js";
import type { OperatorWeights, QuantisedShape } from "./operator-weights.js";
import { checkDims, notFinite, refuseUnknown } from "./weight-checks.js";

/** Elements that are read at a time of a matrix that is quantised. */
const PIECE = 2 ** 18;
const SLACK_BYTES = 2 ** 12;

export class StreamedWeights implements OperatorWeights {
  readonly buffers: ReadonlyMap<string, { readonly info: ParameterInfo; readonly data: Float32Array }>;
  readonly compiled = new Map<string, Executable>();
  readonly #source: WeightSource;
  readonly #infos: ReadonlyMap<string, ParameterInfo>;
  readonly #kept = new Map<string, Float32Array>();
  readonly #lent: (Float32Array | Uint8Array)[] = [];
  /** Address space for what is lent: its pages take memory once they are used, and are used again and again. */
  #desk: Arena | undefined;

  /**
   * Experts of other ranks are not looked at.
   * @throws InputError when a tensor of this rank is missing or of another shape, one is unknown, or a buffer is not finite
   */
  constructor(
    readonly engine: Engine,
    config: ModelConfig,
    { source, layout }: { readonly source: WeightSource; readonly layout: BucketLayout },
  ) {
    this.#source = source;
    refuseUnknown(config, source);
    const infos = localParameters(listParameters(config), layout);
    for (const info of infos) checkDims(info, source);
    this.#infos = new Map(infos.map((info) => [info.name, info]));
    this.#desk = engine.newArena(ARENA_BYTES, "weights being read");
    const buffers = infos.filter(({ buffer }) => buffer);
    this.buffers = new Map(buffers.map((info) => [info.name, { info, data: this.weight(info.name) }]));
  }

  dims(name: string): readonly number[] {
    const info = this.#infos.get(name);
    assert(info !== undefined, `parameter ${name} is not on this rank`);
    return info.dims;
  }

  weight(name: string): Float32Array {
    let data = this.#kept.get(name);
    if (data === undefined) {
      const size = numElements(this.dims(name));
      data = this.engine.newArena(size * 4 + SLACK_BYTES, name).f32(size);
      this.#read(name, data);
      this.#kept.set(name, data);
    }
    return data;
  }

  span(names: ParameterSpan): Float32Array {
    const sizes = names.map((name) => numElements(this.dims(name)));
    const out = this.#lend((desk) => desk.f32(sizes.reduce((a, b) => a + b)));
    let start = 0;
    names.forEach((name, i) => this.#read(name, out.subarray(start, (start += sizes[i]))));
    return out;
  }

  quantised(names: ParameterSpan, { dims, bits }: QuantisedShape): QuantisedMatrix {
    const columns = dims[1];
    const matrix = emptyMatrix(dims, bits, {
      u8: (length) => this.#lend((desk) => desk.u8(length)),
      f32: (length) => this.#lend((desk) => desk.f32(length)),
    });
    const rowsAtOnce = Math.max(1, Math.floor(PIECE / columns));
    const piece = this.#lend((desk) => desk.f32(rowsAtOnce * columns));
    let first = 0;
    for (const name of names) {
      const count = numElements(this.dims(name)) / columns;
      for (let row = 0; row < count; row += rowsAtOnce) {
        const part = piece.subarray(0, Math.min(rowsAtOnce, count - row) * columns);
        this.#read(name, part, row * columns);
        quantiseRows(matrix, part, first + row);
      }
      first += count;
    }
    return matrix;
  }

  takeBack(): void {
    for (const view of this.#lent) this.#desk?.free(view);
    this.#lent.length = 0;
  }

  /** Nothing more is read: closes the source and gives back the memory that reading took. */
  close(): void {
    this.takeBack();
    if (this.#desk === undefined) return;
    this.#desk = undefined;
    this.#source.close();
    // A buffer that one collection finds unused is given back by the next.
    for (let i = 0; i < 2; i++) collectGarbage();
  }

  #lend<T extends Float32Array | Uint8Array>(take: (desk: Arena) => T): T {
    assert(this.#desk !== undefined, "weights are asked for after they were closed");
    const view = take(this.#desk);
    this.#lent.push(view);
    return view;
  }

  #read(name: string, out: Float32Array, from = 0): void {
    // A head may be the embedding's matrix.
    const kept = this.#kept.get(name);
    if (kept !== undefined) return out.set(kept.subarray(from, from + out.length));
    this.#source.readInto(name, out, from);
    if (!Number.isFinite(this.engine.routines.sumSquares(out))) throw notFinite(name, this.#source);
  }
}
