import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError, NumericsError } from "../../core/errors.js";
import { philox } from "../../core/rng.js";
import { tokenLogprob } from "./logprobs.js";
import { Sampler } from "./sampler.js";
import { GREEDY, type SamplingParameters } from "./sampling-parameters.js";

const parameters = (changes: Partial<SamplingParameters>): SamplingParameters => ({
  ...GREEDY,
  temperature: 1,
  ...changes,
});

/** Sorts everything, and takes the steps one by one: what may be drawn, in the order of ids, and with which probability. */
function slowly(logits: Float32Array, { temperature, minP, topK, topP }: SamplingParameters): number[] {
  const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
  const weights = Array.from(logits, (logit) => Math.exp((logit - logits[order[0]]) / temperature));
  let kept = order.filter((id) => weights[id] >= minP);
  if (topK > 0) kept = kept.slice(0, topK);
  const sum = (ids: readonly number[]): number => ids.reduce((total, id) => total + weights[id], 0);
  if (topP < 1) {
    const target = topP * sum(kept);
    let mass = 0;
    kept = kept.filter((id) => {
      const isWanted = mass < target;
      mass += weights[id];
      return isWanted;
    });
  }
  const [total, isKept] = [sum(kept), new Set(kept)];
  return Array.from(logits, (_, id) => (isKept.has(id) ? weights[id] / total : 0));
}

/** The token whose stretch of [0, 1) a number falls into; undefined: it is too near to a border to tell. */
function tokenAt(probabilities: readonly number[], drawn: number): number | undefined {
  let end = 0;
  for (const [id, probability] of probabilities.entries()) {
    end += probability;
    if (Math.abs(end - drawn) < 1e-9) return undefined;
    if (drawn < end) return id;
  }
  return undefined;
}

// Few different values, so that many are equal; zeros of both signs; lengths with and without a rest of a stretch of peaks.
const logits = fc.oneof(
  fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 700, size: "max" }),
  fc.array(fc.constantFrom(-3, -1, -0, 0, 1, 2.5), { minLength: 1, maxLength: 300, size: "max" }),
  fc
    .tuple(fc.integer({ min: 4097, max: 6000 }), fc.nat(), fc.constantFrom(0.1, 3, 1000))
    .map(([length, seed, scale]) => {
      const row = new Float32Array(length);
      philox(seed, "test").fillNormal(row, 0, scale);
      return [...row];
    }),
);

describe("Sampler", () => {
  // Probabilities 1/2, 1/4, 1/8, 1/16, 1/16 at ids 3, 0, 4, 1, 2.
  const row = Float32Array.from([2, 4, 4, 1, 3], (power) => Math.log(2 ** -power));
  const shares = (changes: Partial<SamplingParameters>): number[] => {
    const found = [0, 0, 0, 0, 0];
    const sampler = new Sampler(parameters({ seed: 5, ...changes }), [], 5);
    for (let i = 0; i < 4000; i++) found[sampler.next(row).id]++;
    return found.map((n) => n / 4000);
  };

  it("draws with the probabilities of the softmax, and of that with a temperature", () => {
    [1 / 4, 1 / 16, 1 / 16, 1 / 2, 1 / 8].forEach((p, id) =>
      expect(Math.abs(shares({})[id] - p)).toBeLessThan(0.03),
    );
    // Square roots of the probabilities, in equal parts of their sum.
    const roots = [2, 4, 4, 1, 3].map((power) => 2 ** (-power / 2));
    const total = roots.reduce((a, b) => a + b);
    roots.forEach((root, id) =>
      expect(Math.abs(shares({ temperature: 2 })[id] - root / total)).toBeLessThan(0.03),
    );
    const cut = shares({ topK: 2 });
    expect(Math.abs(cut[3] - 2 / 3)).toBeLessThan(0.03);
  });

  it.each<[Partial<SamplingParameters>, number[]]>([
    [{ topK: 2 }, [0, 3]],
    [{ topK: 4 }, [0, 1, 3, 4]],
    [{ topK: 99 }, [0, 1, 2, 3, 4]],
    [{ topP: 0.5 }, [3]],
    [{ topP: 0.51 }, [0, 3]],
    [{ topP: 0.8 }, [0, 3, 4]],
    [{ topP: 0.9 }, [0, 1, 3, 4]],
    [{ topP: 1e-9 }, [3]],
    [{ minP: 0.3 }, [0, 3]],
    [{ minP: 1 }, [3]],
    // The nucleus is of what is left: 2/3 and 1/3.
    [{ topK: 2, topP: 0.6 }, [3]],
    [{ minP: 0.3, topP: 0.7 }, [0, 3]],
    [{ temperature: 0 }, [3]],
    [{ temperature: 1e-6 }, [3]],
    [{ temperature: 5e-324 }, [3]],
  ])("%j leaves tokens %j", (changes, used) => {
    expect(shares(changes).flatMap((share, id) => (share > 0 ? [id] : []))).toEqual(used);
  });

  it("draws what sorting everything would", () => {
    const some = fc.record({
      temperature: fc.constantFrom(0.1, 0.7, 1, 2, 50),
      minP: fc.constantFrom(0, 0, 1e-4, 0.1, 1),
      topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 7000 })),
      topP: fc.oneof(fc.constant(1), fc.double({ min: 0.001, max: 0.999, noNaN: true })),
      seed: fc.nat(),
    });
    let compared = 0;
    fc.assert(
      fc.property(logits, some, fc.nat(1000), (values, changes, written) => {
        const given = Float32Array.from(values);
        const sampler = new Sampler(parameters(changes), [], values.length);
        for (let i = 0; i < written; i++) sampler.accept(0);
        const expected = tokenAt(
          slowly(given, sampler.parameters),
          philox(changes.seed, "sampling").uniform(written),
        );
        const { id } = sampler.next(given);
        expect(given).toEqual(Float32Array.from(values));
        if (expected === undefined) return;
        expect(id).toBe(expected);
        compared++;
      }),
      { numRuns: 250, seed: 17 },
    );
    expect(compared).toBeGreaterThan(240);
  });

  it("prefers the lowest of equally likely ids", () => {
    const equal = new Float32Array(1000).fill(-2);
    expect(new Sampler(parameters({ temperature: 0 }), [], 1000).next(equal).id).toBe(0);
    for (const changes of [{ topK: 7 }, { topP: 0.007 }]) {
      const sampler = new Sampler(parameters(changes), [], 1000);
      const used = new Set(Array.from({ length: 300 }, () => sampler.next(equal).id));
      expect([...used].sort()).toEqual([0, 1, 2, 3, 4, 5, 6]);
    }
    const zeros = Float32Array.from({ length: 200 }, (_, i) => (i === 150 ? 0 : -0));
    const sampler = new Sampler(parameters({ topK: 2 }), [], 200);
    const used = new Set(Array.from({ length: 50 }, () => sampler.next(zeros).id));
    expect([...used].sort()).toEqual([0, 1]);
  });

  it("draws by seed and number of written tokens alone, whether they were drawn or given", () => {
    const flat = new Float32Array(512);
    const draw = (seed: number, given: number): number[] => {
      const sampler = new Sampler(parameters({ seed }), [1, 2], 512);
      for (let i = 0; i < given; i++) sampler.accept(i);
      return Array.from({ length: 20 - given }, () => sampler.next(flat).id);
    };
    expect(draw(1, 0)).toEqual(draw(1, 0));
    expect(draw(1, 0)).not.toEqual(draw(2, 0));
    expect(draw(1, 8)).toEqual(draw(1, 0).slice(8));
    expect(new Set(draw(2 ** 40, 0)).size).toBeGreaterThan(10);
  });

  it("penalises what stands in the prompt, and what has been written", () => {
    // Chosen greedily, so that each step shows which logit is the largest.
    const write = (
      changes: Partial<SamplingParameters>,
      prompt: readonly number[],
      steps: number,
      row = [4, 3, -1, 2],
    ) => {
      const sampler = new Sampler(parameters({ temperature: 0, ...changes }), prompt, 4);
      return Array.from({ length: steps }, () => sampler.next(Float32Array.from(row)).id);
    };
    // 4 → 2; then 3 → 1.5, which leaves 2 at id 0 and at id 3.
    expect(write({ repetitionPenalty: 2 }, [], 3)).toEqual([0, 1, 0]);
    expect(write({ repetitionPenalty: 2 }, [0, 1], 2)).toEqual([0, 0]);
    // 4 → 0.4, 3 → 0.3, 2 → 0.2, -1 → -10.
    expect(write({ repetitionPenalty: 10 }, [0, 1, 2, 3], 1)).toEqual([0]);
    expect(write({ repetitionPenalty: 0.25 }, [2], 1)).toEqual([0]);
    expect(write({ repetitionPenalty: 3 }, [0, 1, 3], 1, [-1, -4, -2.5, -1])).toEqual([2]);
    // What only stands in the prompt has not been written.
    expect(write({ repetitionPenalty: 1.001, presencePenalty: 2 }, [0], 2)).toEqual([0, 1]);
    // 4, then 2.5; 3, then 1.5; 2, then 0.5: once each, and no more for the next time.
    expect(write({ presencePenalty: 1.5 }, [0, 1], 6)).toEqual([0, 1, 0, 0, 0, 0]);
    // 4, 3.25, 2.5, 1.75 …; 3, 2.25, 1.5; 2, 1.25.
    expect(write({ frequencyPenalty: 0.75 }, [0, 0, 0], 6)).toEqual([0, 0, 1, 0, 1, 3]);
    expect(write({ frequencyPenalty: -2, presencePenalty: 2 }, [], 3)).toEqual([0, 0, 0]);
    // A bias comes before the penalty: (2 + 3) / 2 is less than 4 / 1 and 3 / 1, then more than 4 / 2.
    expect(write({ logitBias: [[3, 3]], repetitionPenalty: 2 }, [3], 3)).toEqual([0, 1, 3]);
  });

  it("takes biases, -Infinity included", () => {
    const bias = (logitBias: SamplingParameters["logitBias"], changes: Partial<SamplingParameters> = {}) => {
      const sampler = new Sampler(parameters({ logitBias, ...changes }), [], 5);
      return [...new Set(Array.from({ length: 200 }, () => sampler.next(row).id))].sort();
    };
    expect(bias([[2, 100]])).toEqual([2]);
    expect(bias([[3, -Infinity], [0, -100]])).toEqual([1, 2, 4]); // prettier-ignore
    for (const changes of [
      { topK: 3 },
      { topP: 0.99 },
      { minP: 1e-9 },
      { temperature: 100 },
      { temperature: 0 },
    ])
      expect(
        bias(
          [0, 1, 3, 4].map((id) => [id, -Infinity]),
          changes,
        ),
      ).toEqual([2]);
    expect(() => bias([0, 1, 2, 3, 4].map((id) => [id, -Infinity]))).toThrow(
      new InputError("The logit biases rule out every token; wanted at least one that may come next"),
    );
    expect(() => bias([[5, 1]])).toThrow(
      new InputError("A logit bias is of token 5; the model's vocab_size is 5"),
    );
    expect(() => bias([[0, NaN]])).toThrow(/^The logit bias of token 0 is NaN; wanted a number/);
  });

  it.each([NaN, Infinity, -Infinity])("refuses a logit of %d wherever it stands", (odd) => {
    for (const at of [0, 70, 127, 128, 129])
      for (const changes of [{ temperature: 0 }, { topK: 5 }, { logitBias: [[1, 2] as const] }]) {
        const sampler = new Sampler(parameters(changes), [1, 2, 3], 130);
        sampler.accept(7);
        const damaged = new Float32Array(130).with(at, odd);
        expect(() => sampler.next(damaged)).toThrow(NumericsError);
        expect(() => sampler.next(damaged)).toThrow(/^The logits after 4 tokens are not finite/);
      }
  });

  it("gives log probabilities of the model's own logits", () => {
    const sampler = new Sampler(
      parameters({ temperature: 0, logprobs: 2, logitBias: [[1, 50]], topK: 1 }),
      [],
      5,
    );
    const { id, logprob } = sampler.next(row);
    expect(id).toBe(1);
    expect(logprob).toMatchObject({ id: 1, rank: 3 });
    expect(logprob?.logprob).toBeCloseTo(Math.log(1 / 16), 6);
    expect(logprob?.top.map(([other]) => other)).toEqual([3, 0]);
    expect(logprob?.top[1][1]).toBeCloseTo(Math.log(1 / 4), 6);
  });
});

describe("tokenLogprob()", () => {
  it("is the log softmax, rank and likeliest tokens of sorting everything", () => {
    fc.assert(
      fc.property(logits, fc.nat(), fc.nat(30), (values, token, top) => {
        const given = Float32Array.from(values);
        const id = token % given.length;
        const order = [...given.keys()].sort((a, b) => given[b] - given[a] || a - b);
        const largest = given[order[0]];
        const sum = given.reduce((total, logit) => total + Math.exp(logit - largest), 0);
        const logprobOf = (other: number): number => given[other] - largest - Math.log(sum);
        const found = tokenLogprob(given, id, top, 1);
        expect(Math.abs(found.logprob - logprobOf(id))).toBeLessThan(
          1e-12 * Math.max(1, Math.abs(given[id])) + 1e-11,
        );
        expect(found.rank).toBe(order.findIndex((other) => given[other] === given[id]));
        expect(found.top.map(([other]) => other)).toEqual(order.slice(0, top));
        for (const [other, logprob] of found.top)
          expect(Math.abs(logprob - logprobOf(other))).toBeLessThan(1e-10);
      }),
      { numRuns: 200, seed: 3 },
    );
  });

  it("refuses logits that are not finite", () => {
    expect(() => tokenLogprob(Float32Array.of(0, NaN), 0, 0, 9)).toThrow(/^The logits after 9 tokens/);
  });
});
