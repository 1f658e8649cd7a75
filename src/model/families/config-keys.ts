/** A published config.json while it is read: what a key says, and at the end whether any was left that nobody asked for. */
import { InputError, didYouMean } from "../../core/errors.js";
import { shown } from "../../core/shown.js";

type Json = Readonly<Record<string, unknown>>;
/** A key, or all names of one setting. */
type Names = string | readonly string[];

/** Keys that change no number, whatever they say: bookkeeping, and what only matters elsewhere. */
const NEUTRAL: readonly string[] = [
  "_name_or_path",
  "_attn_implementation",
  "_attn_implementation_autoset",
  "architectures",
  "attn_implementation",
  "auto_map",
  "aux_loss_alpha",
  "bos_token_id",
  "chunk_size_feed_forward",
  "dtype",
  "eos_token_id",
  "ep_size",
  "id2label",
  "initializer_range",
  "is_encoder_decoder",
  "label2id",
  "model_type",
  "num_mtp_layers",
  "num_nextn_predict_layers",
  "output_attentions",
  "output_hidden_states",
  "output_router_logits",
  "pretraining_tp",
  "problem_type",
  "return_dict",
  "router_aux_loss_coef",
  // Noise in training only, in which it is not used here.
  "router_jitter_noise",
  "seq_aux",
  "tokenizer_class",
  "torch_dtype",
  "transformers_version",
  "use_cache",
];

/** Keys that only one value of is supported; null and false say as much as 0. */
const FIXED: Readonly<Record<string, number | string>> = {
  attention_dropout: 0,
  hidden_dropout: 0,
  resid_pdrop: 0,
  embd_pdrop: 0,
  hidden_act: "silu",
  partial_rotary_factor: 1,
};

/** What a whole number may be. */
interface Range {
  readonly from?: number;
  readonly to?: number;
}

/** Reads a config key by key. What a reader asks for counts as understood. */
export class ConfigKeys {
  readonly #asked = new Set<string>(NEUTRAL);

  /**
   * @param where the file, for messages
   * @param prefix of keys inside a value of the file: "rope_scaling."
   */
  constructor(
    readonly raw: Json,
    readonly where: string,
    readonly prefix = "",
  ) {}

  /**
   * What the file says under any name of a setting; undefined where the key is missing, which null is not.
   * @throws InputError when two names say different things
   */
  value(names: Names): unknown {
    const given = [names].flat().filter((name) => this.has(name));
    for (const name of [names].flat()) this.#asked.add(name);
    const [first, ...others] = given;
    if (first === undefined) return undefined;
    const other = others.find((name) => JSON.stringify(this.raw[name]) !== JSON.stringify(this.raw[first]));
    if (other !== undefined)
      throw new InputError(
        `${this.where}: ${this.prefix}${first} is ${shown(this.raw[first])}, but ${this.prefix}${other} is ${shown(this.raw[other])}; they are one setting`,
      );
    return this.raw[first];
  }

  has(name: string): boolean {
    return Object.hasOwn(this.raw, name) && this.raw[name] !== undefined;
  }

  /**
   * A whole number from 1 (or `from`), at most `to`.
   * @throws InputError when it is something else, or missing without a default
   */
  count(names: Names, missing?: number, { from = 1, to = Infinity }: Range = {}): number {
    const value = this.value(names) ?? (this.#isNull(names) ? null : missing);
    if (Number.isSafeInteger(value) && Number(value) >= from && Number(value) <= to) return Number(value);
    return this.refuse(names, value, `a whole number from ${from}${to === Infinity ? "" : ` to ${to}`}`);
  }

  /** As `count`; null where the file says null, or nothing and there is no default. */
  countOrNull(names: Names, missing: number | null, range?: Range): number | null {
    if (this.#isNull(names)) {
      this.value(names);
      return null;
    }
    if (missing === null && this.value(names) === undefined) return null;
    return this.count(names, missing ?? undefined, range);
  }

  /** A number above 0. */
  real(names: Names, missing?: number): number {
    const value = this.value(names) ?? (this.#isNull(names) ? null : missing);
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    return this.refuse(names, value, "a number above 0");
  }

  /** null says false. */
  flag(names: Names, missing: boolean): boolean {
    const value = this.value(names);
    if (value === undefined) return missing;
    if (value === null || typeof value === "boolean") return value === true;
    return this.refuse(names, value, "true or false");
  }

  /** Whole numbers from 0; null and a missing key are none. */
  list(names: Names): number[] {
    const value = this.value(names) ?? [];
    const isList = Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
    return isList ? (value as number[]) : this.refuse(names, value, "a list of whole numbers from 0");
  }

  /** What the numbers do not depend on in this family. */
  ignore(...names: readonly string[]): void {
    for (const name of names) this.#asked.add(name);
  }

  /**
   * A key that may only say what this family is; missing, it says so.
   * @param wanted values; a key that may be null lists null
   */
  only(name: string, ...wanted: readonly (string | number | boolean | null)[]): void {
    const value = this.value(name);
    if (value !== undefined && !wanted.includes(value as never))
      this.refuse(name, value, wanted.map((one) => JSON.stringify(one)).join(" or "));
  }

  /** @throws InputError naming the first key that nobody asked for: it might change the numbers */
  finish(family: string): void {
    for (const [name, wanted] of Object.entries(FIXED)) {
      if (!this.has(name)) continue;
      const isOff = wanted !== "silu" && this.raw[name] === null;
      if (!isOff && this.raw[name] !== wanted) this.refuse(name, this.raw[name], JSON.stringify(wanted));
      this.#asked.add(name);
    }
    const left = Object.keys(this.raw).find((name) => this.has(name) && !this.#asked.has(name));
    if (left === undefined) return;
    const near = didYouMean(left, this.#asked);
    throw new InputError(
      `${this.where}: ${this.prefix}${left} is ${shown(this.raw[left])}, which is not known to leave the numbers of ${family} alone; ${near === undefined ? "wanted: no such key" : `did you mean "${near}"?`}`,
    );
  }

  /** @throws InputError always: key, value found, value wanted */
  refuse(names: Names, value: unknown, wanted: string): never {
    const all = [names].flat();
    const name = all.find((one) => this.has(one)) ?? all[0];
    const found = value === undefined ? "missing" : shown(value);
    throw new InputError(
      `${this.where}: ${this.prefix}${name} is ${found}${value === undefined ? "" : ", which is not supported"}; wanted ${wanted}`,
    );
  }

  #isNull(names: Names): boolean {
    return [names].flat().some((name) => this.has(name) && this.raw[name] === null);
  }
}
