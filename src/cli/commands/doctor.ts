import { existsSync, statfsSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import { mpiLibrary } from "../../comm/mpi/library.js";
import { availableMemory } from "../../core/available-memory.js";
import { VERSION } from "../../core/version.js";
import { gelu, input, kernel } from "../../kernel/build.js";
import { readCorpus } from "../../data/corpus.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { wasmKernels } from "../../engine/wasm-module.js";
import { engineNeed } from "../../infer/memory-need.js";
import { ENGINE } from "../../infer/open-engine.js";
import { resolveModel } from "../../model/config.js";
import { checkMemory, thisHost } from "../../run/memory-need.js";
import { trainingNeed } from "../../train/memory-need.js";
import { openRun } from "../../train/open-run.js";
import { RANKS, printJson } from "../options.js";

interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** A failed optional check is a hint, not a failure. */
  readonly optional?: boolean;
  readonly detail: string;
}

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description("check what this machine has and whether everything needed works")
    .option("--out <dir>", "where runs will be written", ".")
    .option("--preset <name>", "model that memory is wanted for", "tiny")
    .option("-n, --ranks <n>", "ranks that will train it, as threads", RANKS, 1)
    .option("--json", "print the result as JSON")
    .addHelpText("after", "\nExample:\n  scmoe doctor --out /data/runs --preset small --ranks 2")
    .action((flags: Flags) => {
      const checks = runChecks(flags);
      if (flags.json) printJson(checks);
      else
        for (const { name, ok, optional, detail } of checks)
          process.stdout.write(`${ok ? "ok     " : optional ? "missing" : "FAILED "} ${name}: ${detail}\n`);
      if (checks.some((check) => !check.ok && !check.optional)) process.exitCode = 1;
    });
}

interface Flags {
  readonly out: string;
  readonly preset: string;
  readonly ranks: number;
  readonly json?: boolean;
}

function runChecks({ out, preset, ranks }: Flags): Check[] {
  // A misspelt preset is bad input, no failed check.
  const { config } = openRun({ config: { model: { preset } } });
  const need = trainingNeed(config, { ranks, inProcess: ranks });
  return [
    attempt("scmoe", () => `${VERSION} on Node ${process.version}, ${process.platform} ${process.arch}`),
    attempt(
      "machine",
      () => `${availableParallelism()} cores, ${(totalmem() / 2 ** 30).toFixed(1)} GiB memory`,
    ),
    attempt("memory", () => {
      const { bytes, source } = availableMemory();
      const line = checkMemory(need, thisHost());
      return `${gigabytes(bytes)} ${source}; to train preset ${preset}: ${line}`;
    }),
    attempt("memory to write", () => {
      const model = resolveModel(config.model, `preset ${preset}`);
      const { max_position_embeddings: contextLength } = model;
      const shape = { ...ENGINE, contextLength, hasTokenizer: true, ranks, inProcess: ranks };
      const line = checkMemory(engineNeed(model, shape), thisHost());
      return `with preset ${preset}, ${ENGINE.slots} texts at once, weights in f32: ${line}`;
    }),
    attempt("engine", () => {
      const engine = createOrtEngine();
      const arena = engine.newArena(2 ** 20, "doctor");
      const probe = kernel("doctor", { y: gelu(input("x", [2, 2])) });
      const [x, y] = [arena.f32(4), arena.f32(4)];
      x.fill(1);
      engine.compile(probe).run({ x: { data: x, dims: [2, 2] }, y: { data: y, dims: [2, 2] } });
      if (Math.abs(y[0] - 0.8413447) > 1e-5) throw new Error(`gelu(1) is ${y[0]}, wanted 0.84134`);
      engine.dispose();
      return `${engine.name} computes`;
    }),
    attempt("routines", () => {
      const engine = createOrtEngine();
      const arena = engine.newArena(2 ** 20, "doctor");
      const x = arena.f32(1000).fill(2);
      const found = engine.routines.sumSquares(x);
      engine.dispose();
      if (wasmKernels(x.buffer) === undefined)
        throw new Error("WebAssembly with SIMD and threads is missing");
      if (found !== 4000) throw new Error(`the sum of 1000 squares of 2 is ${found}, wanted 4000`);
      return "WebAssembly SIMD computes";
    }),
    attempt("disk", () => {
      const { bavail, bsize } = statfsSync(nearest(out));
      const free = bavail * bsize;
      if (free < SMALLEST_DISK)
        throw new Error(
          `${gigabytes(free)} free at ${resolve(out)}; wanted at least ${gigabytes(SMALLEST_DISK)}`,
        );
      return `${gigabytes(free)} free at ${resolve(out)}`;
    }),
    attempt(
      "MPI",
      () => {
        mpiLibrary();
        return "the addon loads; mpirun -n 2 npx scmoe train … runs ranks on many hosts";
      },
      true,
    ),
    attempt("built-in corpus", () => `${readCorpus("sotu").train.length} training documents`),
  ];
}

/** Below this not even a small run fits. */
const SMALLEST_DISK = 1e8;

/** A run directory need not exist yet. */
function nearest(path: string): string {
  let found = resolve(path);
  while (!existsSync(found)) found = dirname(found);
  return found;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

function attempt(name: string, action: () => string, optional = false): Check {
  try {
    return { name, ok: true, optional, detail: action() };
  } catch (error) {
    return { name, ok: false, optional, detail: (error as Error).message.split("\n")[0] };
  }
}
