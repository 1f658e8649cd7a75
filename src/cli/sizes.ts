/** Sizes of the models that benchmarks measure, as options of a command. */
import type { Command } from "commander";
import type { ModelInput } from "../model/config.js";
import { BOUNDS } from "../core/bounds.js";
import { numberIn } from "./options.js";

export interface SizeFlags {
  readonly width: number;
  readonly pairs: number;
  readonly experts: number;
  readonly vocab: number;
  readonly sequence: number;
  readonly batch: number;
}

/** Adds the options of `SizeFlags`. */
export function addSizes(command: Command, usual: Pick<SizeFlags, "pairs" | "vocab">): Command {
  return command
    .option("--width <d>", "hidden size D; MLPs are 4·D", numberIn(BOUNDS.width), 512)
    .option("--pairs <n>", "pairs of a dense and an MoE block", numberIn(BOUNDS.pairs), usual.pairs)
    .option("--experts <n>", "routed experts", numberIn(BOUNDS.experts), 8)
    .option("--vocab <n>", "vocabulary", numberIn(BOUNDS.vocabulary), usual.vocab)
    .option("--sequence <n>", "tokens per sequence", numberIn(BOUNDS.sequence), 256)
    .option("--batch <n>", "sequences per rank", numberIn(BOUNDS.batch), 4);
}

export function sizedModel(flags: SizeFlags): Omit<ModelInput, "arch"> {
  return {
    vocab_size: flags.vocab,
    hidden_size: flags.width,
    intermediate_size: 4 * flags.width,
    num_attention_heads: Math.max(1, Math.floor(flags.width / 64)),
    num_hidden_layers: 2 * flags.pairs,
    num_experts: flags.experts,
    max_position_embeddings: flags.sequence,
  };
}
