import { availableParallelism, totalmem } from "node:os";
import type { Command } from "commander";
import { VERSION } from "../../core/version.js";
import { gelu, input, kernel } from "../../kernel/build.js";
import { readCorpus } from "../../data/corpus.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { printJson } from "../options.js";

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
    .option("--json", "print the result as JSON")
    .action((flags: { json?: boolean }) => {
      const checks = runChecks();
      if (flags.json) printJson(checks);
      else
        for (const { name, ok, optional, detail } of checks)
          process.stdout.write(`${ok ? "ok     " : optional ? "missing" : "FAILED "} ${name}: ${detail}\n`);
      if (checks.some((check) => !check.ok && !check.optional)) process.exitCode = 1;
    });
}

function runChecks(): Check[] {
  return [
    attempt("scmoe", () => `${VERSION} on Node ${process.version}, ${process.platform} ${process.arch}`),
    attempt(
      "machine",
      () => `${availableParallelism()} cores, ${(totalmem() / 2 ** 30).toFixed(1)} GiB memory`,
    ),
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
    attempt("built-in corpus", () => `${readCorpus("sotu").train.length} training documents`),
  ];
}

function attempt(name: string, action: () => string, optional = false): Check {
  try {
    return { name, ok: true, optional, detail: action() };
  } catch (error) {
    return { name, ok: false, optional, detail: (error as Error).message.split("\n")[0] };
  }
}
