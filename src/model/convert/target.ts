/** What a model becomes when it is converted: the config of the target, and what is refused. */
import { InputError } from "../../core/errors.js";
import { type Architecture, architecture } from "../architectures.js";
import { type ModelConfig, modelToJson, resolveModel } from "../config.js";

/** What a dense source does not say. */
export interface UpcyclingSizes {
  /** Experts per MoE block. Default 8. */
  readonly experts?: number | undefined;
  /** Every n-th block becomes MoE. Default 2. */
  readonly interval?: number | undefined;
}

/**
 * The config of the target: sizes and everything else are the source's, the architecture is another.
 * @param to name of the architecture
 * @throws InputError when the name is unknown, or a source of its kind cannot become that
 */
export function targetOf(source: ModelConfig, to: string, sizes: UpcyclingSizes = {}): ModelConfig {
  const [from, wanted] = [source.architecture, architecture(to)];
  refuse(source, to, sizes);
  const { coefficient_gate, ...kept } = withoutKeys(modelToJson(source), OF_THE_ARCHITECTURE);
  const isDense = from.routed === "none";
  return resolveModel(
    {
      ...kept,
      arch: to,
      // A shared expert that is kept, is kept with the way it is added.
      ...(from.sharedExpert && wanted.sharedExpert ? { coefficient_gate } : {}),
      // The gate's norm was the block's second; a copy of it reads the shortcut.
      ...(from.routed === "shortcut" || wanted.routed !== "shortcut" ? {} : { shortcut_norm: "own" }),
      ...(isDense ? upcycled(source, sizes) : {}),
      ...(isDense || from.sharedExpert
        ? {}
        : { shared_expert_intermediate_size: source.moe_intermediate_size }),
    },
    `${source.arch} as ${to}`,
  );
}

/** What the target's name says anew, and what goes by its k. */
const OF_THE_ARCHITECTURE: readonly string[] = [
  ...["arch", "model_type", "family", "num_experts_per_tok", "active_experts"],
];

function withoutKeys(
  json: Readonly<Record<string, unknown>>,
  keys: readonly string[],
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(json).filter(([key]) => !keys.includes(key)));
}

/** Experts and shared expert are copies of the MLP, so they have its width. */
function upcycled(
  { intermediate_size: width }: ModelConfig,
  { experts = 8, interval = 2 }: UpcyclingSizes,
): Record<string, unknown> {
  return {
    num_experts: experts,
    moe_layer_interval: interval,
    dense_layers: [],
    moe_intermediate_size: width,
    shared_expert_intermediate_size: width,
  };
}

function refuse({ architecture: from, arch }: ModelConfig, to: string, sizes: UpcyclingSizes): void {
  const wanted = architecture(to);
  const fail = (text: string): never => {
    throw new InputError(`A ${arch} model cannot be converted to ${to}: ${text}`);
  };
  if (isSame(from, wanted)) fail("it is one already");
  if (wanted.routed === "none")
    fail("a dense model has no place for its experts; wanted an architecture with experts");
  if (from.routed === "dual") fail("wanted a dense, top-k, shared-expert or shortcut model as source");
  if (wanted.shareMoe !== undefined) fail("two blocks would have to give their experts up for one set");
  if (from.sharedExpert && !wanted.sharedExpert) fail("its shared expert would be lost");
  if (from.routed !== "none" && (sizes.experts ?? sizes.interval) !== undefined)
    fail("it has its experts and their interval; both can be chosen for dense sources only");
}

function isSame(a: Architecture, b: Architecture): boolean {
  const text = ({ coefficientGate: _default, ...rest }: Architecture): string =>
    JSON.stringify(
      Object.entries(rest)
        .filter(([, value]) => value !== undefined)
        .sort(),
    );
  return text(a) === text(b);
}
