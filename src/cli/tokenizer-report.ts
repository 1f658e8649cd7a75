import type { TokenizerReport } from "../data/verify-tokenizer.js";

/** A comparison of tokenizers, for people. */
export function describeTokenizer(report: TokenizerReport): string {
  const { cases } = report;
  return [
    `${report.directory} (tokenizer)`,
    `ids equal in ${report.equalIds} of ${cases} cases${report.specialTokens ? ", special tokens around them included" : ""}`,
    `decoded text equal in ${report.equalTexts} of ${cases} cases`,
    ...report.differences.map(
      ({ index, what, text, found, wanted }) =>
        `case ${index}, text ${text}: ${what} ${found}, wanted ${wanted}`,
    ),
    report.passed ? "PASSED" : "FAILED",
  ].join("\n");
}
