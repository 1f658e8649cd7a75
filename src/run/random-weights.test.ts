import { expect, it } from "vitest";
import { resolveModel } from "../model/config.js";
import { preset } from "../model/presets.js";
import { randomWeights } from "./random-weights.js";

const config = resolveModel(preset("tiny-llama"));

it("are functions of seed, tensor and place, with the deviation of a fresh model's", () => {
  const source = randomWeights(config, 1);
  const name = source.names.find((other) => other.endsWith("q_proj.weight")) as string;
  const size = source.dims(name).reduce((a, b) => a * b);
  const [whole, part, other] = [size, 100, size].map((length) => new Float32Array(length));
  source.readInto(name, whole);
  source.readInto(name, part, 1000);
  expect(part).toEqual(whole.subarray(1000, 1100));
  randomWeights(config, 2).readInto(name, other);
  expect(other).not.toEqual(whole);
  const mean = whole.reduce((a, b) => a + b) / size;
  const deviation = Math.sqrt(whole.reduce((sum, x) => sum + (x - mean) ** 2, 0) / size);
  expect(Math.abs(mean)).toBeLessThan(config.initializer_range / 50);
  expect(deviation / config.initializer_range).toBeCloseTo(1, 1);
});

it("have unit norms, and refuse what the model has not", () => {
  const source = randomWeights(config, 1);
  const norm = new Float32Array(config.hidden_size);
  source.readInto("model.norm.weight", norm);
  expect(new Set(norm)).toEqual(new Set([1]));
  expect(() => source.readInto("model.norm.weight", norm, 1)).toThrow(/has 128 elements/);
  expect(() => source.dims("model.nothing")).toThrow(/no tensor model.nothing/);
});
