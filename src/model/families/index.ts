/** Published families of models: which one a config.json is of, and what it says in our words, both ways. */
import { InputError } from "../../core/errors.js";
import { shown } from "../../core/shown.js";
import { type ModelConfig, resolveModel } from "../config.js";
import { ConfigKeys } from "./config-keys.js";
import { deepseekV2, deepseekV3, instellaMoe } from "./deepseek.js";
import type { Family } from "./family.js";
import { llama, qwen2, qwen3 } from "./llama.js";
import { longcatFlash } from "./longcat.js";
import { mixtral } from "./mixtral.js";
import { olmoe } from "./olmoe.js";
import { qwen2Moe, qwen3Moe } from "./qwen-moe.js";

export type { Family } from "./family.js";
export { type Stored, placesOf } from "./tensor-names.js";

export const FAMILIES: readonly Family[] = [
  mixtral,
  qwen2Moe,
  qwen3Moe,
  olmoe,
  deepseekV2,
  deepseekV3,
  longcatFlash,
  instellaMoe,
  llama,
  qwen2,
  qwen3,
];

type Json = Readonly<Record<string, unknown>>;

/** The family of a name in `ModelConfig.family`. @throws InputError when there is none */
export function familyNamed(name: string): Family {
  const found = FAMILIES.find((family) => family.name === name);
  if (found === undefined)
    throw new InputError(
      `No family of models is called ${shown(name)} (known: ${FAMILIES.map((family) => family.name).join(", ")})`,
    );
  return found;
}

function isNamed({ architectures, spelling }: Family, name: unknown): boolean {
  return typeof name === "string" && (architectures.includes(name) || spelling?.test(name) === true);
}

/**
 * The family that a config.json is of: what `architectures` says goes before `model_type`, as there are models that say they
 * are of another type.
 * @throws InputError when it is none that is supported
 */
export function familyOf(config: Json, where: string): Family {
  const { architectures, model_type: type } = config;
  const named: unknown = Array.isArray(architectures) ? architectures[0] : (architectures ?? undefined);
  const found =
    named === undefined
      ? FAMILIES.find(({ modelType, hasOwnType = true }) => hasOwnType && modelType === type)
      : FAMILIES.find((family) => isNamed(family, named));
  if (found !== undefined) return found;
  const known =
    named === undefined
      ? FAMILIES.filter(({ hasOwnType = true }) => hasOwnType).map(({ modelType }) => modelType)
      : FAMILIES.map((family) => family.architectures[0]);
  throw new InputError(
    `${where}: ${named === undefined ? "model_type" : "architectures"} is ${shown(named === undefined ? type : architectures)}, which is not supported; wanted one of ${known.join(", ")}`,
  );
}

/**
 * The model that a published config.json describes.
 * @throws InputError naming the key, the value found and the value wanted
 */
export function readConfig(
  config: Json,
  where: string,
): { readonly family: Family; readonly config: ModelConfig } {
  const family = familyOf(config, where);
  const keys = new ConfigKeys(config, where);
  const input = { ...family.read(keys), family: family.name };
  // How weights are stored is not the model's affair.
  keys.ignore("quantization_config");
  keys.finish(family.title);
  return { family, config: resolveModel(input, where) };
}
