/** What engines check before they run a kernel. */
import { numElements } from "../core/tensor.js";
import { topological } from "../kernel/topological.js";
import type { Dim, Expr, Kernel } from "../kernel/kernel.js";
import type { Bindings } from "./engine.js";

/** A tensor as it is checked in every run of a kernel: by loops that allocate nothing. */
interface Checked extends Pick<Expr, "dims" | "dtype"> {
  readonly name: string;
  /** By axis: which symbol it has as size, −1 where that is a number. */
  readonly symbols: readonly number[];
  /** Nothing but a part of longer arrays: without it there is still something to compute. */
  readonly isPart: boolean;
}

const UNKNOWN = -1;

/** What a kernel is given and gives, without how: an engine that keeps this need not keep the kernel and its constants. */
export class Signature {
  readonly name: string;
  readonly inputs: readonly { readonly name: string; readonly expr: Pick<Expr, "dims" | "dtype"> }[];
  readonly outputs: readonly (Signature["inputs"][number] & { readonly aliasOf?: string })[];
  readonly #checked: readonly Checked[];
  /** Of each symbol, in the run that is checked. */
  readonly #sizes: Int32Array;

  constructor(kernel: Kernel) {
    const plain = ({ dims, dtype }: Expr) => ({ dims, dtype });
    this.name = kernel.name;
    this.inputs = kernel.inputs.map(({ name, expr }) => ({ name, expr: plain(expr) }));
    this.outputs = kernel.outputs.map(({ name, expr, aliasOf }) => ({ name, expr: plain(expr), aliasOf }));
    const order = topological(kernel.outputs.map((o) => o.expr));
    const whole = new Set(order.flatMap((expr) => (expr.op === "concat" ? [] : expr.inputs)));
    const parts = new Set(kernel.inputs.filter(({ expr }) => !whole.has(expr)).map(({ name }) => name));
    const symbols = new Map<Dim, number>();
    const symbolOf = (dim: Dim): number => {
      if (typeof dim === "number") return -1;
      if (!symbols.has(dim)) symbols.set(dim, symbols.size);
      return symbols.get(dim) as number;
    };
    this.#checked = [...this.inputs, ...this.outputs].map(({ name, expr: { dims, dtype } }) => ({
      ...{ name, dims, dtype },
      symbols: dims.map(symbolOf),
      isPart: parts.has(name),
    }));
    this.#sizes = new Int32Array(symbols.size);
  }

  /** Whether a symbolic size is zero, so that there is nothing to compute. @throws Error when a binding does not fit */
  check(bindings: Bindings): boolean {
    let empty = false;
    const sizes = this.#sizes.fill(UNKNOWN);
    for (const checked of this.#checked) {
      const tensor = bindings[checked.name];
      if (tensor === undefined) throw new Error(`${this.name}: nothing is bound to ${checked.name}`);
      const { data, dims } = tensor;
      if (!hasDims(checked, dims, sizes)) throw this.#misfit(checked, dims, sizes);
      const found = data instanceof Int32Array ? "i32" : "f32";
      if (found !== checked.dtype)
        throw new Error(`${this.name}: ${checked.name} is ${found}, wanted ${checked.dtype}`);
      if (data.length !== numElements(dims))
        throw new Error(
          `${this.name}: ${checked.name} holds ${data.length} elements, its dims say [${dims.join(", ")}]`,
        );
      if (data.length === 0 && !checked.isPart) empty = true;
    }
    return empty;
  }

  #misfit({ name, dims, symbols }: Checked, found: readonly number[], sizes: Int32Array): Error {
    const wanted = dims.map((dim, axis) => {
      const size = symbols[axis] < 0 ? UNKNOWN : sizes[symbols[axis]];
      return size === UNKNOWN ? dim : `${dim} = ${size}`;
    });
    return new Error(`${this.name}: ${name} is [${found.join(", ")}], wanted [${wanted.join(", ")}]`);
  }

  /** What a kernel over zero rows leaves: accumulated outputs as they are, the others zero. */
  zeroOutputs(bindings: Bindings): void {
    for (const { name, aliasOf } of this.outputs) if (aliasOf === undefined) bindings[name].data.fill(0);
  }
}

/** Symbols that have no size yet get theirs. */
function hasDims({ dims, symbols }: Checked, found: readonly number[], sizes: Int32Array): boolean {
  if (found.length !== dims.length) return false;
  for (let axis = 0; axis < found.length; axis++) {
    const symbol = symbols[axis];
    const wanted = symbol < 0 ? dims[axis] : sizes[symbol];
    if (wanted === UNKNOWN) sizes[symbol] = found[axis];
    else if (wanted !== found[axis]) return false;
  }
  return true;
}
