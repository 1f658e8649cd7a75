/** Several kernels as one: what one gives and a later one reads becomes an expression inside. */
import { assert } from "../core/errors.js";
import * as k from "./build.js";
import type { Expr, Kernel } from "./kernel.js";
import { nodeKey } from "./key.js";

/** By a kernel's names: what is bound to them, in numbers of the caller's. */
type Numbered = Readonly<Record<string, number>>;

/** A kernel with what it is bound to: equal numbers are one value, or one parameter. */
export interface BoundKernel {
  readonly kernel: Kernel;
  readonly inputs: Numbered;
  readonly outputs: Numbered;
  readonly parameters: Numbered;
}

/**
 * One kernel that computes what the members do, one after another, with the same expressions: inputs and parameters are read once
 * whoever reads them, and equal expressions are one. Names are the members', numbered where two would be equal, so that equal
 * members that are bound alike make kernels of equal structure.
 * @param wanted values that are outputs; others are expressions inside, unless they are written in place
 */
export function composeKernels(
  name: string,
  members: readonly BoundKernel[],
  wanted: ReadonlySet<number>,
): BoundKernel {
  const names = new Set<string>();
  const given = { inputs: new Map<number, string>(), parameters: new Map<number, string>() };
  const values = new Map<number, Expr>();
  const parameters = new Map<number, Expr>();
  const outputs: Record<string, Expr> = {};
  const aliases: Record<string, string> = {};
  const written: Record<string, number> = {};
  const share = sharer();
  for (const { kernel, ...bound } of members) {
    const own = new Map<string, Expr>();
    for (const { name: inner, expr, role } of kernel.inputs) {
      const isParameter = bound.parameters[inner] !== undefined;
      const number = isParameter ? bound.parameters[inner] : bound.inputs[inner];
      assert(number !== undefined, `${kernel.name}: nothing is bound to ${inner}`);
      const known = isParameter ? parameters : values;
      let value = known.get(number);
      if (value === undefined) {
        const outer = unique(inner, names);
        (isParameter ? given.parameters : given.inputs).set(number, outer);
        value = { ...expr, attrs: { ...expr.attrs, name: outer, role } };
        known.set(number, value);
      }
      assert(value.dims.join() === expr.dims.join(), `${kernel.name}: ${inner} is of other dims elsewhere`);
      own.set(inner, value);
    }
    const instance = instantiate(own, share);
    for (const { name: inner, expr, aliasOf } of kernel.outputs) {
      const value = instance(expr);
      const number = bound.outputs[inner];
      if (number !== undefined) values.set(number, value);
      if (aliasOf === undefined && !wanted.has(number)) continue;
      const outer = unique(inner, names);
      outputs[outer] = value;
      if (wanted.has(number)) written[outer] = number;
      if (aliasOf !== undefined) aliases[outer] = (own.get(aliasOf) as Expr).attrs.name as string;
    }
  }
  const kernel = k.kernel(name, outputs, aliases);
  const read = new Set(kernel.inputs.map((input) => input.name));
  const bind = (numbers: ReadonlyMap<number, string>): Record<string, number> =>
    Object.fromEntries([...numbers].flatMap(([number, outer]) => (read.has(outer) ? [[outer, number]] : [])));
  return { kernel, inputs: bind(given.inputs), outputs: written, parameters: bind(given.parameters) };
}

function unique(name: string, taken: Set<string>): string {
  let found = name;
  for (let n = 2; taken.has(found); n++) found = `${name}_${n}`;
  taken.add(found);
  return found;
}

/** A kernel's expressions over what takes the place of its inputs, which is not looked into. */
function instantiate(inputs: ReadonlyMap<string, Expr>, share: (expr: Expr) => Expr): (expr: Expr) => Expr {
  const known = new Map<Expr, Expr>();
  const make = (expr: Expr): Expr => {
    if (expr.op !== "input") return share({ ...expr, inputs: expr.inputs.map(visit) });
    const given = inputs.get(expr.attrs.name as string);
    assert(given !== undefined, "a kernel knows all its inputs");
    return given;
  };
  const visit = (expr: Expr): Expr => {
    const result = known.get(expr) ?? make(expr);
    known.set(expr, result);
    return result;
  };
  return visit;
}

/** The first of equal expressions over shared operands. */
function sharer(): (expr: Expr) => Expr {
  const ids = new Map<Expr, number>();
  const first = new Map<string, Expr>();
  const idOf = (expr: Expr): number => {
    let id = ids.get(expr);
    if (id === undefined) ids.set(expr, (id = ids.size));
    return id;
  };
  return (expr) => {
    const key = nodeKey(expr, idOf);
    let found = first.get(key);
    if (found === undefined) first.set(key, (found = expr));
    return found;
  };
}
