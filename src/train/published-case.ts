/** What another implementation computed with a published model: `case.safetensors` and `gradients.safetensors` beside it. */
import { join } from "node:path";
import { InputError } from "../core/errors.js";
import type { ModelConfig } from "../model/config.js";
import { exists } from "../storage/files.js";
import { SafetensorsReader } from "../storage/safetensors.js";

export interface PublishedCase {
  /** Token ids [batch, sequence], row-major. */
  readonly ids: Int32Array;
  readonly batch: number;
  readonly sequence: number;
  /** [batch, sequence, vocabulary] */
  readonly logits?: Float32Array | undefined;
  /** Of `ids`, as they stand: not shifted. [batch, sequence] */
  readonly labels?: Int32Array | undefined;
  /** Mean cross-entropy of the logits against the labels. */
  readonly loss?: number | undefined;
  /** The first row of `ids`, and what follows if always the likeliest token is taken. */
  readonly greedy?: Int32Array | undefined;
  /** Of the loss, under the names of the files. */
  readonly gradients?: SafetensorsReader | undefined;
  close(): void;
}

/** @throws InputError when it is missing, damaged, or does not fit the model */
export function openCase(directory: string, config: ModelConfig): PublishedCase {
  const path = join(directory, "case.safetensors");
  const file = SafetensorsReader.open(path);
  let gradients: SafetensorsReader | undefined;
  try {
    const { dims } = file.info("ids");
    const [batch, sequence] = dims;
    if (dims.length !== 2 || batch < 1 || sequence < 1)
      throw new InputError(`${path}: ids are [${dims.join(", ")}], wanted [batch, sequence]`);
    const optional = <T>(name: string, wanted: readonly number[], read: () => T): T | undefined => {
      if (!file.tensors.has(name)) return undefined;
      const found = file.info(name).dims;
      if (found.length !== wanted.length || wanted.some((n, i) => n >= 0 && n !== found[i]))
        throw new InputError(`${path}: ${name} is [${found.join(", ")}], wanted [${wanted.join(", ")}]`);
      return read();
    };
    const tokens = (name: string): Int32Array => {
      const ids = file.readI32(name);
      const bad = ids.find((id) => id < 0 || id >= config.vocab_size);
      if (bad !== undefined)
        throw new InputError(`${path}: ${name} has token ${bad}; vocab_size is ${config.vocab_size}`);
      return ids;
    };
    const ids = tokens("ids");
    const labels = optional("labels", [batch, sequence], () => tokens("labels"));
    const loss = file.tensors.has("loss") ? file.readF32("loss")[0] : undefined;
    const logits = optional("logits", [batch, sequence, config.vocab_size], () => file.readF32("logits"));
    const greedy = optional("greedy", [1, -1], () => tokens("greedy"));
    const beside = join(directory, "gradients.safetensors");
    if (exists(beside) && labels !== undefined) gradients = SafetensorsReader.open(beside);
    const close = (): void => gradients?.close();
    return { ids, batch, sequence, labels, loss, logits, greedy, gradients, close };
  } catch (error) {
    gradients?.close();
    throw error;
  } finally {
    file.close();
  }
}
