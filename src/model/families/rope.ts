/** Rotary positions as published configs have them: `rope_parameters`, or the older `rope_theta` and `rope_scaling`. */
import type { RopeScaling } from "../attention-keys.js";
import type { ModelConfig, ModelInput } from "../config.js";
import { ConfigKeys } from "./config-keys.js";

type Rope = Pick<ModelInput, "rope_theta" | "rope_scaling">;

/**
 * What is inside the dictionary goes before what stands beside it.
 * @param missing base where the file has none
 * @param positions the model's longest sequence: what it was before stretching, where nothing is said
 * @throws InputError when it is stretched in a way that is not supported
 */
export function readRope(keys: ConfigKeys, missing: number, positions: number): Rope {
  const dictionaries = ["rope_scaling", "rope_parameters"].map((name) => ({ name, value: keys.value(name) }));
  for (const { name, value } of dictionaries)
    if (value !== undefined && (typeof value !== "object" || Array.isArray(value)))
      keys.refuse(name, value, "an object such as {rope_type, rope_theta}, or null");
  const { name, value } =
    dictionaries.find((one) => Object.keys(one.value ?? {}).length > 0) ?? dictionaries[1];
  const inside = new ConfigKeys((value ?? {}) as Record<string, unknown>, keys.where, `${name}.`);
  const beside = keys.value("rope_theta");
  const theta = inside.has("rope_theta")
    ? inside.real("rope_theta")
    : beside === undefined
      ? missing
      : keys.real("rope_theta");
  inside.ignore("rope_theta");
  const rope_scaling = scaling(inside, keys, positions);
  inside.finish("RoPE");
  return { rope_theta: theta, rope_scaling };
}

function scaling(inside: ConfigKeys, keys: ConfigKeys, positions: number): RopeScaling | null {
  const type = inside.has("rope_type") ? inside.value("rope_type") : inside.value("type");
  inside.ignore("type");
  const original = (): number => {
    const beside = keys.countOrNull("original_max_position_embeddings", null);
    return beside ?? inside.countOrNull("original_max_position_embeddings", null) ?? positions;
  };
  switch (type ?? "default") {
    case "default":
      // Left over from a way of stretching that is not used.
      inside.ignore("factor", "original_max_position_embeddings");
      return null;
    case "llama3":
      return {
        rope_type: "llama3",
        factor: inside.real("factor"),
        original_max_position_embeddings: original(),
        low_freq_factor: inside.real("low_freq_factor"),
        high_freq_factor: inside.real("high_freq_factor"),
      };
    case "yarn":
      return yarn(inside, original(), positions);
    default:
      return inside.refuse(
        inside.has("rope_type") ? "rope_type" : "type",
        type,
        '"default", "llama3" or "yarn"',
      );
  }
}

function yarn(inside: ConfigKeys, original: number, positions: number): RopeScaling {
  /** 0 and null say as much as nothing. */
  const given = (name: string): number | undefined =>
    inside.value(name) === null || inside.value(name) === undefined || inside.value(name) === 0
      ? undefined
      : inside.real(name);
  return {
    rope_type: "yarn",
    factor: given("factor") ?? positions / original,
    original_max_position_embeddings: original,
    beta_fast: given("beta_fast") ?? 32,
    beta_slow: given("beta_slow") ?? 1,
    mscale: given("mscale"),
    mscale_all_dim: given("mscale_all_dim"),
    attention_factor: given("attention_factor"),
    truncate: inside.flag("truncate", true),
  };
}

/** `rope_parameters` of a model. */
export function writeRope({ rope_theta, rope_scaling }: ModelConfig): Record<string, unknown> {
  const kind = rope_scaling === null ? { rope_type: "default" } : rope_scaling;
  const said = Object.entries({ ...kind, rope_theta }).filter(([, value]) => value !== undefined);
  return { rope_parameters: Object.fromEntries(said) };
}
