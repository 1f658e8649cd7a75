import type { Command } from "commander";
import { verify } from "../../api/verify.js";
import type { FixtureReport } from "../../train/verify.js";
import type { VerifyReport } from "../../train/verify-folder.js";
import type { PublishedReport } from "../../train/verify-published.js";
import { formatTable, print } from "../options.js";
import { describeTokenizer } from "../tokenizer-report.js";

export function addVerify(program: Command): void {
  program
    .command("verify")
    .description(
      "compare with another implementation: a training run's losses, gradients and weights, a published model's logits, greedy tokens, loss and gradients, or a tokenizer's ids and texts",
    )
    .argument(
      "<dir...>",
      "directories with run.json, initial, tokens, gradients0 and final .safetensors; published models with case.safetensors and gradients.safetensors; or tokenizer.json and cases.json",
    )
    .option("--json", "print the result as JSON")
    .action((directories: string[], flags: { json?: boolean }) => {
      const reports = directories.map((directory) => verify({ directory }));
      print(flags, reports.length === 1 ? reports[0] : reports, reports.map(describe).join("\n\n"));
      if (!reports.every((report) => report.passed)) process.exitCode = 1;
    });
}

const ZERO = "true gradient is zero: not judged";
const exp = (x: number): string => x.toExponential(1);

function describe(report: VerifyReport): string {
  switch (report.kind) {
    case "training run":
      return describeRun(report);
    case "published model":
      return describePublished(report);
    case "tokenizer":
      return describeTokenizer(report);
  }
}

/** Headings, a table of gradients, and the verdict. */
function describePublished(report: PublishedReport): string {
  const { tolerance, logits, loss, greedy, gradients } = report;
  return [
    `${report.directory} (${report.family}, arch ${report.arch})`,
    ...(logits === null
      ? []
      : [`logits error ${exp(logits.norm)} (norms), ${exp(logits.largest)} (largest of largest)`]),
    ...(greedy === null
      ? []
      : [`greedy tokens ${greedy.equal} of ${greedy.of} equal, over a cache ${greedy.cached}`]),
    ...(loss === null ? [] : [`loss ${loss.found.toFixed(6)}, error ${exp(loss.error)}`]),
    ...(gradients.length === 0
      ? []
      : [
          formatTable(
            ["tensor", "gradient error", ""],
            gradients.map(({ name, error, undetermined }) => [name, exp(error), undetermined ? ZERO : ""]),
          ),
        ]),
    ...report.notCompared.map((what) => `not compared: ${what}`),
    `tolerances: logits ${tolerance.logits}, loss ${tolerance.loss}, gradients ${tolerance.gradient}, greedy tokens all`,
    ...(report.tokenizer === null ? [] : [describeTokenizer(report.tokenizer)]),
    ...report.failures,
    report.passed ? "PASSED" : "FAILED",
  ].join("\n");
}

function describeRun(report: FixtureReport): string {
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
        g.undetermined ? ZERO : "",
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
    ...report.failures,
    report.passed ? "PASSED" : "FAILED",
  ].join("\n");
}
