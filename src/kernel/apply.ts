import type { DType } from "../core/tensor.js";
import type { Attrs, Expr } from "./kernel.js";
import type { OpName } from "./ops.js";
import { SHAPE_RULES } from "./shapes.js";

/** An op on operands, its shape checked at once. @throws ShapeError */
export function apply(op: OpName, inputs: readonly Expr[], attrs: Attrs = {}, dtype: DType = "f32"): Expr {
  return { op, inputs, attrs, dims: SHAPE_RULES[op](inputs, attrs, op), dtype };
}
