/** FarSkip of style gpt as method 5.7 writes it, in plain loops over rows in f64: no program, no kernel, no chunk. */
import { type ModelConfig, isMoeBlock } from "../../src/model/config.js";

type Row = readonly number[];
type Rows = readonly Row[];

/** A model's weights by name, each as it is stored. */
export type WeightOf = (name: string) => ArrayLike<number>;

export interface Sequences {
  readonly tokens: ArrayLike<number>;
  readonly labels: ArrayLike<number>;
  /** Tokens of a sequence. */
  readonly sequence: number;
}

const sum = (values: Row): number => values.reduce((a, b) => a + b, 0);
const dot = (a: Row, b: ArrayLike<number>, from = 0): number => sum(a.map((x, i) => x * b[from + i]));
const plus = (a: Row, b: Row): Row => a.map((x, i) => x + b[i]);
const times = (factor: number, a: Row): Row => a.map((x) => factor * x);

function softmax(values: Row): Row {
  const largest = Math.max(...values);
  const powers = values.map((x) => Math.exp(x - largest));
  return times(1 / sum(powers), powers);
}

/** Abramowitz and Stegun 7.1.6: a series, exact to f64 where activations are. */
function erf(x: number): number {
  let [term, total] = [x, x];
  for (let n = 1; n < 200; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    total += term;
  }
  return ((2 / Math.sqrt(Math.PI)) * total) / Math.exp(x * x);
}

/** Means over all tokens: the cross-entropy, and the balance loss, a mean over MoE blocks too. */
export function farskipLosses(
  config: ModelConfig,
  weight: WeightOf,
  { tokens, labels, sequence: S }: Sequences,
): { lmLoss: number; balanceLoss: number } {
  const { hidden_size: D, num_attention_heads: H, num_experts: N, topK } = config;
  const T = tokens.length;
  const product = (name: string, x: Row): Row => {
    const matrix = weight(`${name}.weight`);
    return Array.from({ length: matrix.length / x.length }, (_, o) => dot(x, matrix, o * x.length));
  };
  const linear = (name: string, x: Row): Row => plus(product(name, x), Array.from(weight(`${name}.bias`)));
  const norm = (name: string, x: Row): Row => {
    const centred = x.map((value) => value - sum(x) / D);
    const deviation = Math.sqrt(dot(centred, centred) / D + config.norm_eps);
    const [w, b] = [weight(`${name}.weight`), weight(`${name}.bias`)];
    return centred.map((value, i) => (value / deviation) * w[i] + b[i]);
  };
  const mlp = (name: string, x: Row): Row => {
    const inner = linear(`${name}.up_proj`, x);
    const active = inner.map((value) => (value * (1 + erf(value / Math.SQRT2))) / 2);
    return linear(`${name}.down_proj`, active);
  };
  const attention = (name: string, x: Rows): Rows => {
    const [q, k, v] = ["q", "k", "v"].map((which) => x.map((row) => linear(`${name}.${which}_proj`, row)));
    const dh = D / H;
    return x.map((_, t) => {
      const seen = Array.from({ length: (t % S) + 1 }, (_key, i) => t - (t % S) + i);
      const heads = Array.from({ length: H }, (_head, h) => {
        const part = (row: Row): Row => row.slice(h * dh, (h + 1) * dh);
        const scores = seen.map((s) => dot(part(q[t]), part(k[s])) / Math.sqrt(dh));
        const shares = softmax(scores);
        return seen.map((s, i) => times(shares[i], part(v[s]))).reduce(plus);
      });
      return linear(`${name}.o_proj`, heads.flat());
    });
  };
  const balances: number[] = [];
  const routed = (name: string, u: Rows): Rows => {
    const p = u.map((row) => softmax(product(`${name}.gate`, row)));
    const order = p.map((row) => [...row.keys()].sort((a, b) => row[b] - row[a] || a - b));
    const firstOf = (e: number): number => order.filter(([first]) => first === e).length / T;
    const meanOf = (e: number): number => sum(p.map((row) => row[e])) / T;
    balances.push(N * sum(Array.from({ length: N }, (_, e) => firstOf(e) * meanOf(e))));
    const capacity = config.capacity_factor ?? Infinity;
    const room = Array.from({ length: N }, () => Math.ceil((capacity * topK * T) / N));
    const out: Row[] = u.map((row) => times(0, row));
    for (let choice = 0; choice < topK; choice++)
      for (let t = 0; t < T; t++) {
        const e = order[t][choice];
        if (room[e]-- <= 0) continue;
        const kept = topK === 1 ? 1 : sum(order[t].slice(0, topK).map((other) => p[t][other]));
        out[t] = plus(out[t], times(p[t][e] / kept, mlp(`${name}.experts.${e}`, u[t])));
      }
    return out;
  };
  const coefficients = (name: string, u: Row): Row => {
    if (config.coefficient_gate === "none") return [1, 1];
    const z = product(`${name}.shared_expert_gate`, u);
    return config.coefficient_gate === "cg1" ? [1 / (1 + Math.exp(-z[0])), 1] : softmax(z);
  };

  const [embedding, positions] = ["tokens", "positions"].map((of) => weight(`model.embed_${of}.weight`));
  let full: Rows = Array.from({ length: T }, (_, t) =>
    Array.from({ length: D }, (_column, i) => embedding[tokens[t] * D + i] + positions[(t % S) * D + i]),
  );
  let partial = full;
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const name = `model.layers.${layer}`;
    const n2 = (x: Row): Row => norm(`${name}.post_attention_layernorm`, x);
    const attended = attention(
      `${name}.self_attn`,
      partial.map((row) => norm(`${name}.input_layernorm`, row)),
    );
    const a = full.map((row, t) => plus(row, attended[t]));
    if (isMoeBlock(config, layer)) {
      const u = full.map(n2);
      const terms = routed(`${name}.mlp`, u);
      const c = u.map((row) => coefficients(`${name}.mlp`, row));
      partial = a.map((row, t) => plus(row, times(c[t][0], mlp(`${name}.mlp.shared_expert`, u[t]))));
      full = partial.map((row, t) => plus(row, times(c[t][1], terms[t])));
    } else {
      const read = config.dense_reads === "before" ? full : a;
      full = partial = a.map((row, t) => plus(row, mlp(`${name}.mlp`, n2(read[t]))));
    }
  }
  const losses = full.map((row, t) => {
    const x = norm("model.norm", row);
    const logits = Array.from({ length: config.vocab_size }, (_, id) => dot(x, embedding, id * D));
    return -Math.log(softmax(logits)[labels[t]]);
  });
  return { lmLoss: sum(losses) / T, balanceLoss: sum(balances) / balances.length };
}
