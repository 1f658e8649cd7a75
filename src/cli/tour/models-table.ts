/** What both trainings came to, as a table. */
import type { Trained } from "../../api/train.js";
import { type Column, columnTable } from "../options.js";

interface Model extends Trained {
  readonly title: string;
  readonly speedUp: number;
}

const COLUMNS: readonly Column<Model>[] = [
  { name: "model", text: ({ title }) => title },
  { name: "validation loss", text: ({ validationLoss }) => validationLoss?.toFixed(3) ?? "–" },
  { name: "tokens/s", text: ({ tokensPerSecond }) => tokensPerSecond?.toFixed(0) ?? "–" },
  { name: "speed-up", text: ({ speedUp }) => `${speedUp.toFixed(2)} ×` },
  { name: "communication", text: ({ timing }) => `${timing?.communicationMs.toFixed(1) ?? "–"} ms` },
  { name: "exposed", text: ({ timing }) => `${timing?.exposedMs.toFixed(1) ?? "–"} ms` },
  { name: "parameters", text: ({ parameters }) => `${(parameters.total / 1e6).toFixed(2)} M` },
  { name: "active", text: ({ parameters }) => `${(parameters.active / 1e6).toFixed(2)} M` },
];

/** @param titles of the results, in their order; the first is the baseline */
export function modelsTable(results: readonly Trained[], titles: readonly string[]): string {
  const models = results.map((result, i) => {
    const speedUp = (result.tokensPerSecond ?? NaN) / (results[0].tokensPerSecond ?? NaN);
    return { ...result, title: titles[i], speedUp };
  });
  return `${columnTable(COLUMNS, models)}\nUnigram entropy of the validation text: ${results[0].unigramEntropy.toFixed(3)} nats`;
}
