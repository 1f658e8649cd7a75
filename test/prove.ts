/** A proof run: a twin trains sequentially beside, and every byte of losses, gradients and weights is compared. */
import { expect } from "vitest";
import { MINI, scmoe, shortDocuments, temporaryDirectory } from "./helpers.js";

const dir = temporaryDirectory();

interface Result {
  readonly proof: { readonly steps: number; readonly bytes: number; readonly differing: number };
}

let corpus: string | undefined;
/** Several documents in every window, told apart. */
const documentsApart = (): string[] => [
  "data.document_mask=true",
  `data.corpus=${(corpus ??= shortDocuments())}`,
];

/** Of which a token may have several, or nothing else. */
const ZERO_EXPERTS = ["model.num_zero_experts=6", "model.balance_groups=2", "model.routed_scaling_factor=2"];

function prove(arch: string, policy: string, ranks: number, more: readonly string[]): Result["proof"] {
  const run = `${arch}-${policy.replace(/\W/g, "")}-${ranks}-${more.length}`;
  const { stdout, stderr } = scmoe(
    // Adaptive places operators with measured costs after the third step: the fourth runs as placed.
    ["train", "-q", "--json", "--prove-overlap", "-o", run, "-n", String(ranks), ...MINI].concat([
      "--set",
      `model.arch=${arch}`,
      "--set",
      `schedule.policy=${policy}`,
      "--set",
      "train.steps=4",
      ...more.flatMap((set) => ["--set", set]),
    ]),
    dir,
  );
  expect(stderr).toBe("");
  return (JSON.parse(stdout) as Result).proof;
}

/** @param how what is set beside architecture and policy */
export function expectSameBits(
  arch: string,
  policy: string,
  ranks: number,
  how: "documents told apart" | "zero experts" | readonly string[] = [],
): void {
  const more = { "documents told apart": documentsApart, "zero experts": () => ZERO_EXPERTS };
  const proof = prove(arch, policy, ranks, typeof how === "string" ? more[how]() : how);
  expect(proof.steps).toBe(4);
  expect(proof.bytes).toBeGreaterThan(10_000);
  expect(proof.differing).toBe(0);
}
