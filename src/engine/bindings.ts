/** What engines check before they run a kernel. */
import { numElements } from "../core/tensor.js";
import { topological } from "../kernel/differentiate.js";
import type { Dim, Expr, Kernel } from "../kernel/kernel.js";
import type { Bindings } from "./engine.js";

/** What a kernel is given and gives, without how: an engine that keeps this need not keep the kernel and its constants. */
export class Signature {
  readonly name: string;
  readonly inputs: readonly { readonly name: string; readonly expr: Pick<Expr, "dims" | "dtype"> }[];
  readonly outputs: readonly (Signature["inputs"][number] & { readonly aliasOf?: string })[];
  /** Inputs that are nothing but parts of longer arrays: without them there is still something to compute. */
  readonly #parts: ReadonlySet<string>;

  constructor(kernel: Kernel) {
    const plain = ({ dims, dtype }: Expr) => ({ dims, dtype });
    this.name = kernel.name;
    this.inputs = kernel.inputs.map(({ name, expr }) => ({ name, expr: plain(expr) }));
    this.outputs = kernel.outputs.map(({ name, expr, aliasOf }) => ({ name, expr: plain(expr), aliasOf }));
    const order = topological(kernel.outputs.map((o) => o.expr));
    const whole = new Set(order.flatMap((expr) => (expr.op === "concat" ? [] : expr.inputs)));
    this.#parts = new Set(kernel.inputs.filter(({ expr }) => !whole.has(expr)).map(({ name }) => name));
  }

  /** Whether a symbolic size is zero, so that there is nothing to compute. @throws Error when a binding does not fit */
  check(bindings: Bindings): boolean {
    let empty = false;
    const sizes = new Map<string, number>();
    for (const { name, expr } of [...this.inputs, ...this.outputs]) {
      const tensor = bindings[name];
      if (tensor === undefined) throw new Error(`${this.name}: nothing is bound to ${name}`);
      const fits = (dim: Dim, size: number): boolean => {
        if (typeof dim === "number") return dim === size;
        if (!sizes.has(dim)) sizes.set(dim, size);
        return sizes.get(dim) === size;
      };
      if (
        tensor.dims.length !== expr.dims.length ||
        !expr.dims.every((dim, i) => fits(dim, tensor.dims[i]))
      ) {
        const wanted = expr.dims.map((dim) =>
          sizes.has(String(dim)) ? `${dim} = ${sizes.get(String(dim))}` : dim,
        );
        throw new Error(
          `${this.name}: ${name} is [${tensor.dims.join(", ")}], wanted [${wanted.join(", ")}]`,
        );
      }
      const found = tensor.data instanceof Int32Array ? "i32" : "f32";
      if (found !== expr.dtype) throw new Error(`${this.name}: ${name} is ${found}, wanted ${expr.dtype}`);
      if (tensor.data.length !== numElements(tensor.dims))
        throw new Error(
          `${this.name}: ${name} holds ${tensor.data.length} elements, its dims say [${tensor.dims.join(", ")}]`,
        );
      if (tensor.data.length === 0 && !this.#parts.has(name)) empty = true;
    }
    return empty;
  }

  /** What a kernel over zero rows leaves: accumulated outputs as they are, the others zero. */
  zeroOutputs(bindings: Bindings): void {
    for (const { name, aliasOf } of this.outputs) if (aliasOf === undefined) bindings[name].data.fill(0);
  }
}
