import type { Command } from "commander";
import { type BlockOptions, type BlockResult, benchBlock } from "../../bench/block.js";
import { type StepResult, benchStep } from "../../bench/step.js";
import { BOUNDS } from "../../core/bounds.js";
import { InputError } from "../../core/errors.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { formatTable, numberIn, print } from "../options.js";
import { type SizeFlags, addSizes, sizedModel } from "../sizes.js";

interface BlockFlags extends Omit<BlockOptions, "style"> {
  readonly style: string;
  readonly json?: boolean;
}

/** `bench block`: one block beside bare matrix products. */
export function addBenchBlock(bench: Command): void {
  bench
    .command("block")
    .description("one pre-norm block, forward and backward, one thread: GFLOP/s and share of the GEMM rate")
    .option("--width <d>", "hidden size D; the MLP is 4·D", numberIn(BOUNDS.width), 512)
    .option("--heads <n>", "attention heads", numberIn(BOUNDS.heads), 8)
    .option("--sequence <n>", "tokens per sequence", numberIn(BOUNDS.sequence), 256)
    .option("--batch <n>", "sequences", numberIn(BOUNDS.batch), 4)
    .option("--rounds <n>", "measured rounds", numberIn(BOUNDS.rounds), 25)
    .option("--style <style>", "gpt or llama", "gpt")
    .option("--json", "print the result as JSON")
    .action((flags: BlockFlags) => {
      const { width, heads, sequence, batch, rounds, style } = flags;
      if (style !== "gpt" && style !== "llama")
        throw new InputError(`--style is gpt or llama; found "${style}"`);
      const engine = createOrtEngine();
      const result = benchBlock(engine, { width, heads, sequence, batch, rounds, style });
      engine.dispose();
      print(flags, result, describeBlock(result));
    });
}

function describeBlock(r: BlockResult): string {
  return [
    `block D=${r.width} H=${r.heads} S=${r.sequence} B=${r.batch}, ${r.style}, f32, one thread, median of ${r.rounds} rounds`,
    `forward ${r.forwardMs.toFixed(1)} ms, backward ${r.backwardMs.toFixed(1)} ms, together ${r.totalMs.toFixed(1)} ms (fastest ${r.fastestMs.toFixed(1)})`,
    `${r.gflopPerSecond.toFixed(1)} GFLOP/s of ${r.gemmGflopPerSecond.toFixed(1)} GFLOP/s that its bare matrix products reach: ${(r.shareOfGemm * 100).toFixed(0)} %`,
  ].join("\n");
}

interface StepFlags extends SizeFlags {
  readonly arch: string;
  readonly rounds: number;
  readonly json?: boolean;
}

/** `bench step`: a training step and what is not kernels in it. */
export function addBenchStep(bench: Command): void {
  addSizes(bench.command("step"), { pairs: 4, vocab: 8192 })
    .description("a whole training step on one rank: share of the time outside kernels")
    .option("--arch <name>", "architecture", "top2")
    .option("--rounds <n>", "measured rounds", numberIn(BOUNDS.rounds), 9)
    .option("--json", "print the result as JSON")
    .action((flags: StepFlags) => {
      const engine = createOrtEngine();
      const result = benchStep(engine, {
        model: { arch: flags.arch, ...sizedModel(flags) },
        batch: flags.batch,
        sequence: flags.sequence,
        rounds: flags.rounds,
      });
      engine.dispose();
      print(flags, result, describeStep(result));
    });
}

function describeStep(r: StepResult): string {
  const rows = Object.entries(r.parts)
    .sort(([, a], [, b]) => b - a)
    .map(([name, ms]) => [name, ms.toFixed(1), `${((ms / r.stepMs) * 100).toFixed(1)} %`]);
  return [
    `${r.arch}, ${(r.parameters / 1e6).toFixed(1)} M parameters, ${r.tokens} tokens: step ${r.stepMs.toFixed(0)} ms, ${r.tokensPerSecond.toFixed(0)} tokens/s`,
    `in kernels ${r.kernelMs.toFixed(0)} ms, outside ${r.outsideMs.toFixed(0)} ms: ${(r.outsideShare * 100).toFixed(1)} % of the step`,
    formatTable(["outside kernels", "ms", "of the step"], rows),
  ].join("\n");
}
