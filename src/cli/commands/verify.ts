import type { Command } from "commander";
import { verify } from "../../api/verify.js";
import type { VerifyReport } from "../../train/verify.js";
import { formatTable, print } from "../options.js";
import { describeTokenizer } from "../tokenizer-report.js";

export function addVerify(program: Command): void {
  program
    .command("verify")
    .description(
      "compare with another implementation: losses, gradients and final weights of a training run, or a tokenizer's ids and texts",
    )
    .argument(
      "<dir...>",
      "directories with run.json, initial, tokens, gradients0 and final .safetensors; or with tokenizer.json and cases.json",
    )
    .option("--json", "print the result as JSON")
    .action((directories: string[], flags: { json?: boolean }) => {
      const reports = directories.map((directory) => verify({ directory }));
      print(
        flags,
        reports.length === 1 ? reports[0] : reports,
        reports
          .map((report) => ("equalIds" in report ? describeTokenizer(report) : describe(report)))
          .join("\n\n"),
      );
      if (!reports.every((report) => report.passed)) process.exitCode = 1;
    });
}

function describe(report: VerifyReport): string {
  const exp = (x: number): string => x.toExponential(1);
  const steps = formatTable(
    ["step", "loss", "LM loss error", "balance error", "loss error", "norm error"],
    report.steps.map((s) => [
      String(s.step),
      s.loss.toFixed(6),
      exp(s.lmError),
      exp(s.balanceError),
      exp(s.lossError),
      exp(s.normError),
    ]),
  );
  const weights = new Map(report.weights.map((w) => [w.name, w]));
  const tensors = formatTable(
    ["tensor", "gradient error", "final weight error", ""],
    report.gradients.map((g) => {
      const weight = weights.get(g.name);
      return [
        g.name,
        exp(g.error),
        weight === undefined ? "–" : exp(weight.error),
        g.undetermined ? "true gradient is zero: not judged" : "",
      ];
    }),
  );
  const { tolerance } = report;
  return [
    `${report.directory} (${report.arch})`,
    steps,
    tensors,
    report.logitsError === null ? "no logits0.safetensors" : `logits error ${exp(report.logitsError)}`,
    `tolerances: loss ${tolerance.loss}, gradients ${tolerance.gradient}, weights ${tolerance.weight}, logits ${tolerance.logits}`,
    ...report.warnings.map((warning) => `warning: ${warning}`),
    ...report.failures,
    report.passed ? "PASSED" : "FAILED",
  ].join("\n");
}
