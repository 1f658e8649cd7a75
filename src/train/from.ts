/** A run that starts with the weights and the tokenizer of a model that is there already. */
import { resolve } from "node:path";
import { InputError } from "../core/errors.js";
import { modelToJson, resolveModel } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import { loadWeights } from "../run/load-weights.js";
import { openModel } from "../run/open-model.js";
import type { RunConfig, StartingPoint } from "./config.js";
import type { Trainee } from "./trainee.js";

/** @throws InputError when the model is missing, damaged or not supported */
export function startingPoint(path: string): StartingPoint {
  const opened = openModel(path);
  opened.close();
  const { config, directory, tokenizer } = opened;
  return {
    directory,
    model: modelToJson(config),
    tokenizer: tokenizer === undefined ? undefined : resolve(tokenizer),
  };
}

/**
 * What is set may change how the model is trained, and which experts take part; not its tensors.
 * @throws InputError naming a tensor whose shape would change, or when there is no tokenizer
 */
export function refuseOtherShapes(config: RunConfig, { directory, model }: StartingPoint): void {
  const [wanted, there] = [shapesOf(config.model), shapesOf(model)];
  const other = [...wanted.keys(), ...there.keys()].find((name) => wanted.get(name) !== there.get(name));
  if (other !== undefined) {
    const changed = Object.keys({ ...model, ...config.model }).filter(
      (key) => JSON.stringify(model[key]) !== JSON.stringify(config.model[key]),
    );
    const key = changed.find((one) => changesShapes(model, { [one]: config.model[one] })) ?? changed[0];
    throw new InputError(
      `model.${key} ${JSON.stringify(config.model[key])} does not fit the weights of ${directory}: ${other} would be ${wanted.get(other) ?? "gone"}, there it is ${there.get(other) ?? "missing"}; leave it as it is`,
    );
  }
  if (config.data.tokenizer === undefined)
    throw new InputError(
      `${directory} has no tokenizer.json; set data.tokenizer to the model's (another would not fit its weights)`,
    );
}

/** Trained tensors and their dims. */
function shapesOf(model: Readonly<Record<string, unknown>>): Map<string, string> {
  return new Map(
    listParameters(resolveModel(model, "model")).flatMap(({ name, dims, buffer }) =>
      buffer === true ? [] : [[name, `[${dims.join(", ")}]`]],
    ),
  );
}

/** Whether one key alone makes other tensors, or no model at all. */
function changesShapes(model: StartingPoint["model"], change: StartingPoint["model"]): boolean {
  try {
    const text = (shapes: Map<string, string>): string => JSON.stringify([...shapes]);
    return text(shapesOf(model)) !== text(shapesOf({ ...model, ...change }));
  } catch {
    return true;
  }
}

/** @throws InputError when weights are missing, damaged or do not fit */
export function loadStart(rank: Trainee, path: string): void {
  const { world } = rank;
  const model = openModel(path);
  try {
    model.verify({ turn: world.rank, of: world.size });
    loadWeights(rank, model.source, "adapted");
  } finally {
    model.close();
  }
}
