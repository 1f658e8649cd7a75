/**
 * Trains a small ScMoE language model on a text file, listens to its progress, then evaluates it and lets it write.
 * The text has a rule (after "the" comes one of four nouns, after a noun a verb …): a model that has learnt anything
 * predicts it better than word frequencies do.
 */
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { evaluate, generate, train } from "scmoe";

const home = mkdtempSync(join(tmpdir(), "scmoe-example-"));
const corpus = join(home, "text.txt");
const cache = join(home, "cache");
const NOUNS = ["cat", "dog", "bird", "fox"];
const VERBS = ["sees", "hears", "follows"];
/** The i-th of a list, in an order without a pattern. */
const pick = (list: readonly string[], i: number): string =>
  list[Math.floor(Math.abs(Math.sin(i * 12.9898) * 43758.5453)) % list.length] ?? "";
const sentence = (_: unknown, i: number): string =>
  `the ${pick(NOUNS, 3 * i)} ${pick(VERBS, 3 * i + 1)} the ${pick(NOUNS, 3 * i + 2)}.`;
const document = (_: unknown, d: number): string =>
  Array.from({ length: 20 }, (_, i) => sentence(_, 20 * d + i)).join(" ");
writeFileSync(corpus, Array.from({ length: 100 }, document).join("\n\n"));

const losses: number[] = [];
const trained = await train({
  directory: join(home, "run"),
  config: {
    model: {
      arch: "scmoe-pos2",
      style: "llama",
      vocab_size: 300,
      hidden_size: 32,
      intermediate_size: 64,
      num_attention_heads: 2,
      num_hidden_layers: 4,
      num_experts: 4,
      max_position_embeddings: 32,
    },
    data: { corpus, cache },
    train: { steps: 60, batch_size: 8, learning_rate: 0.01 },
  },
  onEvent(event) {
    if (event.kind === "step") losses.push(event.loss);
  },
});
console.log(`${losses.length} steps: loss ${losses[0]?.toFixed(2)} → ${trained.trainLoss?.toFixed(2)}`);
assert.equal(losses.length, 60);
assert.ok((trained.validationLoss ?? NaN) < trained.unigramEntropy, "it has learnt more than frequencies");

const model = trained.directory;
const { loss, perplexity } = await evaluate({ model, corpus, cache });
console.log(`held-out text: ${loss.toFixed(2)} nats per token, perplexity ${perplexity.toFixed(1)}`);
assert.ok(Math.abs(perplexity - Math.exp(loss)) < 1e-9 * perplexity);

const prompt = "the cat sees";
const pieces: string[] = [];
const { text } = await generate({
  model,
  prompt,
  maxNewTokens: 12,
  temperature: 0,
  onText: (piece) => pieces.push(piece),
});
console.log(prompt + text);
assert.equal(pieces.join(""), text);
assert.match(text, /^ the (cat|dog|bird|fox)/);
