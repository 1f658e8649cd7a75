/** An ONNX graph under construction: nodes, initialisers, names. Field numbers follow onnx.proto (IR version 10). */
import { InputError } from "../../core/errors.js";
import type { DType } from "../../core/tensor.js";
import type { Dim } from "../kernel.js";
import { ProtoWriter } from "../../core/protobuf.js";

/** TensorProto.DataType */
export const ELEMENT_TYPE = { f32: 1, u8: 2, i32: 6, i64: 7, f64: 11 } as const satisfies Record<
  DType | "u8" | "i64" | "f64",
  number
>;

/**
 * Where initialisers lie whose values are given by address: onnxruntime wants a file to be there, and does not open it. One of
 * its own package.
 */
const OUTSIDE_FILE = "package.json";

/** Of one Protocol Buffers message. */
const MAX_MODEL_BYTES = 2 ** 31 - 1;

export type NodeAttr = number | { readonly float: number } | string | readonly number[];

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly output: string;
  /** Names of its outputs after the first. */
  readonly more?: readonly string[];
  readonly attrs: Readonly<Record<string, NodeAttr>>;
  /** "" is ONNX itself; "com.microsoft" holds FusedMatMul. */
  readonly domain: string;
}

interface Initializer {
  readonly name: string;
  readonly type: number;
  readonly dims: readonly number[];
  readonly raw: Uint8Array | "outside";
}

/** An initialiser whose values are not part of the model: whoever makes a session of it gives them by address. */
export interface OutsideInitializer {
  readonly name: string;
  readonly data: Float32Array | Uint8Array;
  readonly dims: readonly number[];
  /** Scales of a quantised matrix: on some machines they are not packed with it, and read whenever the model runs. */
  readonly areScales: boolean;
}

export class OnnxGraph {
  readonly nodes: OnnxNode[] = [];
  readonly #initializers = new Map<string, Initializer>();
  readonly outside: OutsideInitializer[] = [];
  readonly #shared = new Map<string, string>();
  #names = 0;

  /**
   * Adds a node and returns the name of its first output.
   * @param more what `further` finds its other outputs by
   */
  node(
    op: string,
    inputs: readonly string[],
    attrs: Readonly<Record<string, NodeAttr>> = {},
    domain = "",
    more: readonly string[] = [],
  ): string {
    const output = `t${this.#names++}`;
    this.nodes.push({ op, inputs, output, more: more.map((of) => this.further(output, of)), attrs, domain });
    return output;
  }

  /** The name of a node's further output, by the name of its first. */
  further(output: string, of: string): string {
    return `${output}_${of}`;
  }

  /** The name of what several ops need: made for the first that asks by this key. */
  shared(key: string, make: () => string): string {
    const name = this.#shared.get(key) ?? make();
    this.#shared.set(key, name);
    return name;
  }

  /** What was made under a key. */
  known(key: string): string | undefined {
    return this.#shared.get(key);
  }

  /** Drops nodes whose outputs nothing needs that is needed for these. */
  keepOnly(outputs: readonly string[]): void {
    const needed = new Set(outputs);
    const kept: OnnxNode[] = [];
    for (const node of this.nodes.splice(0).reverse()) {
      if (![node.output, ...(node.more ?? [])].some((name) => needed.has(name))) continue;
      for (const name of node.inputs) needed.add(name);
      kept.push(node);
    }
    this.nodes.push(...kept.reverse());
  }

  /** Values are not copied before `encode`. */
  f32(values: Float32Array, dims: readonly number[]): string {
    return this.#initializer(`c${this.#initializers.size}`, "f32", values, dims);
  }

  scalar(value: number): string {
    return this.#initializer(`f${value}`, "f32", Float32Array.of(value), []);
  }

  f64(values: Float64Array): string {
    return this.#initializer(`d${values.join("_")}`, "f64", values, [values.length]);
  }

  /** A scalar of 32 bits; `ints` are the 64-bit lists that shapes and axes are given as. */
  i32(value: number): string {
    return this.#initializer(`n${value}`, "i32", Int32Array.of(value), []);
  }

  ints(values: readonly number[]): string {
    const words = BigInt64Array.from(values, BigInt);
    return this.#initializer(`i${values.join("_")}`, "i64", words, [values.length]);
  }

  /**
   * Values that onnxruntime packs for the op that reads them, and reads at no other time: they are not copied into the model, and
   * their memory is free once the session is made.
   */
  packed(data: Float32Array | Uint8Array, dims: readonly number[], areScales = false): string {
    const name = `o${this.outside.length}`;
    this.outside.push({ name, data, dims, areScales });
    const type = ELEMENT_TYPE[data instanceof Uint8Array ? "u8" : "f32"];
    this.#initializers.set(name, { name, type, dims, raw: "outside" });
    return name;
  }

  /** Equal values have equal names, and are stored once. */
  #initializer(
    name: string,
    type: keyof typeof ELEMENT_TYPE,
    { buffer, byteOffset, byteLength }: ArrayBufferView,
    dims: readonly number[],
  ): string {
    const raw = new Uint8Array(buffer, byteOffset, byteLength);
    if (!this.#initializers.has(name))
      this.#initializers.set(name, { name, type: ELEMENT_TYPE[type], dims, raw });
    return name;
  }

  /** Serialises a ModelProto. @throws InputError when it has more bytes than onnxruntime reads */
  encode(name: string, inputs: readonly ValueInfo[], outputs: readonly ValueInfo[]): Uint8Array {
    const model = new ProtoWriter();
    model.int(1, 10).string(2, "scmoe");
    model.message(7, (graph) => {
      for (const node of this.nodes) graph.message(1, (w) => writeNode(w, node));
      graph.string(2, name);
      for (const i of this.#initializers.values())
        graph.message(5, (w) => {
          for (const dim of i.dims) w.int(1, dim);
          w.int(2, i.type).string(8, i.name);
          if (i.raw !== "outside") w.bytes(9, i.raw);
          else w.message(13, (entry) => entry.string(1, "location").string(2, OUTSIDE_FILE)).int(14, 1);
        });
      for (const value of inputs) graph.message(11, (w) => writeValueInfo(w, value));
      for (const value of outputs) graph.message(12, (w) => writeValueInfo(w, value));
    });
    model.message(8, (w) => w.string(1, "").int(2, 21));
    model.message(8, (w) => w.string(1, "com.microsoft").int(2, 1));
    if (model.numBytes > MAX_MODEL_BYTES)
      throw new InputError(
        `${name}: with its fixed weights the kernel has ${(model.numBytes / 2 ** 30).toFixed(2)} GiB, onnxruntime reads at most 2 GiB; fix fewer weights and bind the others as inputs`,
      );
    return model.finish();
  }
}

export interface ValueInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly Dim[];
}

function writeNode(w: ProtoWriter, node: OnnxNode): void {
  for (const name of node.inputs) w.string(1, name);
  for (const name of [node.output, ...(node.more ?? [])]) w.string(2, name);
  w.string(4, node.op);
  for (const [name, value] of Object.entries(node.attrs)) w.message(5, (a) => writeAttribute(a, name, value));
  if (node.domain !== "") w.string(7, node.domain);
}

/** AttributeProto types: FLOAT 1, INT 2, STRING 3, INTS 7. */
function writeAttribute(w: ProtoWriter, name: string, value: NodeAttr): void {
  w.string(1, name);
  if (typeof value === "number") w.int(3, value).int(20, 2);
  else if (typeof value === "string") w.bytes(4, new TextEncoder().encode(value)).int(20, 3);
  else if ("float" in value) w.float(2, value.float).int(20, 1);
  else {
    for (const item of value) w.int(8, item);
    w.int(20, 7);
  }
}

function writeValueInfo(w: ProtoWriter, { name, dtype, dims }: ValueInfo): void {
  w.string(1, name).message(2, (type) =>
    type.message(1, (tensor) =>
      tensor.int(1, ELEMENT_TYPE[dtype]).message(2, (shape) => {
        for (const dim of dims)
          shape.message(1, (d) => (typeof dim === "number" ? d.int(1, dim) : d.string(2, dim)));
      }),
    ),
  );
}
