/**
 * Causal self-attention with its norm and residual: y = x + O·softmax(QKᵀ/√dh + mask)·V over LN(x).
 * T = B·S tokens, D width, H query heads, G key/value heads, dh head dimension.
 */
import * as k from "../../kernel/build.js";
import type { Expr, Kernel } from "../../kernel/kernel.js";
import type { ModelConfig } from "../config.js";
import { norm } from "./norm.js";

/**
 * Rows of the score matrix are computed in blocks; later blocks see more keys, none sees keys that are masked out for
 * all of it. Smaller blocks save work, but products of few rows run slowly and every block costs operators.
 */
const MIN_BLOCK_ROWS = 64;
const MAX_BLOCKS = 8;

export function attentionKernel(config: ModelConfig, sequence: number): Kernel {
  const D = config.hidden_size;
  const dh = config.headDim;
  const H = config.num_attention_heads;
  const G = config.num_key_value_heads;
  const x = k.input("x", ["T", D]);
  const qkvWidth = (H + 2 * G) * dh;
  const qkv = k.linear(
    norm(config, x, "ln"),
    k.parameter("qkv_w", [qkvWidth, D]),
    config.attention_bias ? k.parameter("qkv_b", [qkvWidth]) : undefined,
  );
  const heads = (start: number, count: number): Expr =>
    k.transpose(
      k.reshape(k.slice(qkv, 1, start * dh, (start + count) * dh), ["B", sequence, count, dh]),
      [0, 2, 1, 3],
    );
  let q = heads(0, H);
  let key = heads(H, G);
  let value = heads(H + G, G);
  if (config.style === "llama") {
    const [cos, sin] = rotaryTables(sequence, dh, config.rope_theta);
    q = k.rope(q, cos, sin);
    key = k.rope(key, cos, sin);
  }
  if (G < H) {
    key = repeatHeads(key, G, H / G, sequence, dh);
    value = repeatHeads(value, G, H / G, sequence, dh);
  }
  const context = causalAttention(q, key, value, sequence, dh);
  const merged = k.reshape(k.transpose(context, [0, 2, 1, 3]), ["T", H * dh]);
  const out = k.linear(
    merged,
    k.parameter("o_w", [D, H * dh]),
    config.style === "gpt" ? k.parameter("o_b", [D]) : undefined,
  );
  return k.kernel("attention", { y: k.add(x, out) });
}

function causalAttention(q: Expr, key: Expr, value: Expr, S: number, dh: number): Expr {
  const rows = Math.min(S, Math.max(1, Math.ceil(S / MAX_BLOCKS / MIN_BLOCK_ROWS)) * MIN_BLOCK_ROWS);
  const blocks: Expr[] = [];
  for (let start = 0; start < S; start += rows) {
    const end = Math.min(S, start + rows);
    const whole = start === 0 && end === S;
    const qBlock = whole ? q : k.slice(q, 2, start, end);
    const keyBlock = end === S ? key : k.slice(key, 2, 0, end);
    const valueBlock = end === S ? value : k.slice(value, 2, 0, end);
    const scores = k.matmul(qBlock, keyBlock, { transB: true, alpha: 1 / Math.sqrt(dh) });
    const probabilities = k.softmax(k.add(scores, causalMask(start, end)));
    blocks.push(k.matmul(probabilities, valueBlock));
  }
  return blocks.length === 1 ? blocks[0] : k.concat(blocks, 2);
}

/** Added to the scores of query rows [start, end) over keys [0, end). */
function causalMask(start: number, end: number): Expr {
  const mask = new Float32Array((end - start) * end);
  for (let row = start; row < end; row++)
    mask.fill(-1e9, (row - start) * end + row + 1, (row - start + 1) * end);
  return k.constant(mask, [end - start, end]);
}

/** [B, G, S, dh] → [B, G·n, S, dh], each head n times in a row (grouped-query attention). */
function repeatHeads(x: Expr, G: number, n: number, S: number, dh: number): Expr {
  return k.reshape(k.expand(k.reshape(x, ["B", G, 1, S, dh]), ["B", G, n, S, dh]), ["B", G * n, S, dh]);
}

/** cos and sin of position × frequency, [S, dh], both halves alike (Hugging Face's rotate-half convention). */
function rotaryTables(S: number, dh: number, theta: number): [Expr, Expr] {
  const cos = new Float32Array(S * dh);
  const sin = new Float32Array(S * dh);
  for (let s = 0; s < S; s++) {
    for (let i = 0; i < dh; i++) {
      const angle = s * Math.pow(theta, (-2 * (i % (dh / 2))) / dh);
      cos[s * dh + i] = Math.cos(angle);
      sin[s * dh + i] = Math.sin(angle);
    }
  }
  return [k.constant(cos, [S, dh]), k.constant(sin, [S, dh])];
}
