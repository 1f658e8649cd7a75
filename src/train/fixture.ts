/** A fixture directory made by another implementation (method 9.8): what it must hold, and what is read from it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { InputError } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import type { ModelConfig } from "../model/config.js";
import { parseWith } from "../core/parse.js";
import { inferConfig } from "../model/infer-config.js";
import { checkTensors } from "../run/weight-checks.js";
import { SafetensorsReader } from "../storage/safetensors.js";

const stepSchema = z.looseObject({
  lm_loss: z.number(),
  balance_loss: z.number(),
  loss: z.number(),
  grad_norm: z.number(),
});

/** Optimiser settings default to those of method 9.3. */
const runSchema = z.looseObject({
  config: z.looseObject({}),
  learning_rate: z.number().nonnegative(),
  weight_decay: z.number().nonnegative().default(0.1),
  betas: z.tuple([z.number(), z.number()]).default([0.9, 0.95]),
  eps: z.number().positive().default(1e-8),
  clip_norm: z.number().positive().nullable().default(null),
  balance_coefficient: z.number().nonnegative().optional(),
  steps: z.array(stepSchema).min(1),
});

export interface Fixture {
  readonly directory: string;
  readonly run: z.output<typeof runSchema>;
  readonly config: ModelConfig;
  readonly initial: SafetensorsReader;
  readonly final: SafetensorsReader;
  readonly gradients: SafetensorsReader;
  /** Absent in fixtures that were made without it. */
  readonly logits?: SafetensorsReader;
  /** [steps, batch, sequence + 1] */
  readonly tokens: Int32Array;
  readonly batch: number;
  readonly sequence: number;
  close(): void;
}

/** @throws InputError when a file is missing or broken, or the files do not fit each other */
export function openFixture(directory: string): Fixture {
  const path = (name: string): string => join(directory, name);
  const run = parseWith(runSchema, readJson(path("run.json")), path("run.json"));
  const opened: SafetensorsReader[] = [];
  const open = (name: string): SafetensorsReader => {
    const reader = SafetensorsReader.open(path(`${name}.safetensors`));
    opened.push(reader);
    return reader;
  };
  const close = (): void => opened.forEach((reader) => reader.close());
  try {
    const initial = open("initial");
    const shapes = new Map(initial.names.map((name) => [name, initial.info(name).dims]));
    const { balance_coefficient: coefficient, config: given } = run;
    const config = inferConfig(
      coefficient === undefined ? given : { ...given, router_aux_loss_coef: coefficient },
      shapes,
      path("run.json"),
    );
    const [gradients, final] = [open("gradients0"), open("final")];
    const check = (file: SafetensorsReader, missing: "allowed" | "refused"): void =>
      checkTensors(
        config,
        { where: file.path, names: file.names, dims: (name) => file.info(name).dims },
        missing,
      );
    check(initial, "refused");
    check(final, "refused");
    // Tensors whose gradient is zero may be left out.
    check(gradients, "allowed");
    const tokens = readTokens(open("tokens"), config, run.steps.length);
    const logits = existsSync(path("logits0.safetensors")) ? open("logits0") : undefined;
    if (logits !== undefined) checkLogits(logits, [tokens.batch, tokens.sequence, config.vocab_size]);
    return { directory, run, config, initial, final, gradients, logits, ...tokens, close };
  } catch (error) {
    close();
    throw error;
  }
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new InputError(
      `Cannot read ${path}; a fixture directory holds run.json and five .safetensors files`,
    );
  }
  return parseJson(text, path);
}

function readTokens(
  file: SafetensorsReader,
  config: ModelConfig,
  numSteps: number,
): Pick<Fixture, "tokens" | "batch" | "sequence"> {
  const { dims } = file.info("tokens");
  const [steps, batch, width] = dims;
  if (dims.length !== 3 || batch < 1 || width < 2)
    throw new InputError(
      `${file.path}: tokens are [${dims.join(", ")}], wanted [steps, batch, sequence + 1]`,
    );
  if (steps < numSteps)
    throw new InputError(`${file.path}: tokens for ${steps} steps, run.json lists ${numSteps}`);
  const sequence = width - 1;
  if (config.style === "gpt" && sequence > config.max_position_embeddings)
    throw new InputError(
      `${file.path}: sequences of ${sequence} tokens, max_position_embeddings is ${config.max_position_embeddings}`,
    );
  const tokens = file.readI32("tokens");
  const bad = tokens.find((token) => token < 0 || token >= config.vocab_size);
  if (bad !== undefined)
    throw new InputError(`${file.path}: token ${bad} is outside the vocabulary of ${config.vocab_size}`);
  return { tokens, batch, sequence };
}

function checkLogits(file: SafetensorsReader, wanted: readonly number[]): void {
  const { dims } = file.info("logits");
  if (dims.join() !== wanted.join())
    throw new InputError(`${file.path}: logits are [${dims.join(", ")}], wanted [${wanted.join(", ")}]`);
}
