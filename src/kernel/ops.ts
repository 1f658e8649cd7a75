/**
 * The ops of the tensor language. Four tables are total over this list, so an op does not compile until it has all
 * four: `shapes.ts` (result dims), `derivatives.ts` (vector-Jacobian products), `onnx/rules.ts`, and for the tests
 * `test/reference/rules.ts` (the slow, obvious meaning).
 * To add an op, add its name here and follow the compiler.
 */
export const OP_NAMES = [
  "input",
  "constant",
  // element-wise
  "add",
  "sub",
  "mul",
  "div",
  "neg",
  "exp",
  "log",
  "sqrt",
  "reciprocal",
  "tanh",
  "sigmoid",
  "erf",
  "softplus",
  "gelu",
  "geluGrad",
  "silu",
  "siluGrad",
  "clamp",
  "clampGrad",
  // matrix products
  "matmul",
  "linear",
  "quantisedLinear",
  "gemmAccumulate",
  // shape
  "transpose",
  "reshape",
  "slice",
  "pad",
  "sumPrefixes",
  "concat",
  "expand",
  // along an axis
  "reduceSum",
  "reduceMean",
  "softmax",
  "softmaxGrad",
  "layerNorm",
  "layerNormGrad",
  "layerNormScaleGrad",
  "rmsNorm",
  "rmsNormGrad",
  "rmsNormScaleGrad",
  // from positions
  "rotary",
  "causalBias",
  "documentBias",
  // rows of a table, and of a cache
  "gatherRows",
  "cachedAttention",
  "cacheAfter",
  // loss
  "crossEntropy",
  "crossEntropyGrad",
  "softCrossEntropy",
] as const;

export type OpName = (typeof OP_NAMES)[number];

/**
 * What forward keeps for backward: results of these ops, or what they become (`kept.ts`), are saved when backward needs them;
 * everything else is computed again from what is saved, which costs less than the memory traffic of keeping it.
 */
export const SAVED_FOR_BACKWARD: ReadonlySet<OpName> = new Set<OpName>(["matmul", "linear", "softmax"]);
