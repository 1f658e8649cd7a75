/** Which layers see only the most recent tokens. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";

/** How a family says it where there is no list of layers. */
export interface WindowRule {
  /** Whether the number counts only with `use_sliding_window`. */
  readonly hasSwitch: boolean;
  /** The number where the key is missing. */
  readonly missing: number | null;
  /** Whether a layer has the window; default all have. @param most `max_window_layers` */
  readonly has?: (layer: number, most: number) => boolean;
}

const SWITCHED = { hasSwitch: true, missing: 4096 } as const;
export const WINDOWS = {
  mixtral: { hasSwitch: false, missing: null },
  every: SWITCHED,
  late: { ...SWITCHED, has: (layer, most) => layer >= most },
  evenEarly: { ...SWITCHED, has: (layer, most) => layer % 2 === 0 && layer < most },
} satisfies Readonly<Record<string, WindowRule>>;

const MOST_WINDOW_LAYERS = 28;
const TYPES = { full_attention: false, sliding_attention: true } as const;

/**
 * A list of `layer_types` goes before the family's rule.
 * @throws InputError when layers have a window whose width nothing says, or are of a type that is not supported
 */
export function readWindows(
  keys: ConfigKeys,
  layers: number,
  rule: WindowRule,
): Pick<ModelInput, "sliding_window" | "sliding_window_layers"> {
  const isOn = !rule.hasSwitch || keys.flag("use_sliding_window", false);
  // Where it is off the number has no meaning, and may be saved as 0.
  keys.ignore("sliding_window", "max_window_layers");
  const width = isOn ? keys.countOrNull("sliding_window", rule.missing) : null;
  const listed = layerTypes(keys, layers);
  if (listed === undefined && width === null) return { sliding_window: null };
  const { has } = rule;
  const most = has === undefined ? 0 : keys.count("max_window_layers", MOST_WINDOW_LAYERS, { from: 0 });
  const having = [...Array(layers).keys()].filter((i) => listed?.[i] ?? has?.(i, most) ?? true);
  if (having.length === 0) return { sliding_window: null };
  if (width === null)
    return keys.refuse(
      "layer_types",
      keys.value("layer_types"),
      "full_attention only: sliding_window is off",
    );
  return {
    sliding_window: width,
    ...(having.length === layers ? {} : { sliding_window_layers: having }),
  };
}

/** Of a family without windows: a list may only say so. */
export function refuseWindows(keys: ConfigKeys, layers: number): void {
  if (layerTypes(keys, layers)?.includes(true) === true)
    keys.refuse("layer_types", keys.value("layer_types"), "full_attention only");
  keys.only("sliding_window", null);
  keys.only("use_sliding_window", false, null);
  keys.ignore("max_window_layers");
}

function layerTypes(keys: ConfigKeys, layers: number): boolean[] | undefined {
  const list = keys.value("layer_types") ?? undefined;
  if (list === undefined) return undefined;
  const isKnown = (type: unknown): type is keyof typeof TYPES =>
    typeof type === "string" && Object.hasOwn(TYPES, type);
  if (!Array.isArray(list) || list.length !== layers || !list.every(isKnown))
    return keys.refuse("layer_types", list, `${layers} of ${Object.keys(TYPES).join(", ")}`);
  return list.map((type) => TYPES[type]);
}

/** The keys of a model's windows. @param isListed whether the family has `layer_types` */
export function writeWindows(
  { sliding_window: width, sliding_window_layers: some, num_hidden_layers: layers }: ModelConfig,
  { hasSwitch, isListed }: { readonly hasSwitch: boolean; readonly isListed: boolean },
): Record<string, unknown> {
  const types = Array.from({ length: layers }, (_, i) =>
    width !== null && (some?.includes(i) ?? true) ? "sliding_attention" : "full_attention",
  );
  return {
    sliding_window: width,
    ...(hasSwitch ? { use_sliding_window: width !== null } : {}),
    ...(isListed ? { layer_types: types } : {}),
  };
}
