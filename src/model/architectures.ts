import { InputError, didYouMean } from "../core/errors.js";

/** What distinguishes one architecture from another (table: method 5.1). Everything else is configuration. */
export interface Architecture {
  /** How blocks are wired to each other: a row in `wirings.ts`. */
  readonly wiring: "standard" | "farskip";
  /**
   * Where the routed experts' input comes from: the block's stream after its attention ("current"), what enters the block
   * ("input"), or the block before ("shortcut"); "dual" is DGMoE (current and preceding, one choice each).
   */
  readonly routed: "none" | "current" | "input" | "shortcut" | "dual";
  readonly topK: number;
  readonly sharedExpert: boolean;
  /** Shortcut position: 1 output of the preceding block, 2 its stream after attention, 3 its input. */
  readonly position?: 1 | 2 | 3;
  /** Position of the first MoE block when it differs ("Pos-2 (L0 Pos-1)"). */
  readonly firstPosition?: 1 | 2 | 3;
  /** Consecutive MoE blocks that share one set of gate and experts (DGMoE-Share: 2). */
  readonly shareMoe?: number;
  /** Default way of combining shared and routed terms. */
  readonly coefficientGate: "none" | "cg1" | "cg2";
  /** Defaults of keys that go with a wiring, where they are not everyone's. */
  readonly shortcutNorm?: "own" | "reuse";
  readonly renormalize?: boolean;
  readonly balance?: "aux" | "bias" | "none";
}

const standard = (topK: number): Architecture => ({
  wiring: "standard",
  routed: "current",
  topK,
  sharedExpert: false,
  coefficientGate: "none",
});
const shared = (topK: number): Architecture => ({
  wiring: "standard",
  routed: "current",
  topK,
  sharedExpert: true,
  coefficientGate: "cg2",
});
const scmoe = (topK: number, position: 1 | 2 | 3, firstPosition?: 1 | 2 | 3): Architecture => ({
  wiring: "standard",
  routed: "shortcut",
  topK,
  sharedExpert: true,
  position,
  firstPosition,
  coefficientGate: "cg1",
});
const farskip = (topK: number): Architecture => ({
  wiring: "farskip",
  routed: "input",
  topK,
  sharedExpert: true,
  coefficientGate: "none",
});

/**
 * Families whose name carries numbers: top<k>, shared<k>, longcat<k>, farskip<k>, scmoe<k>-pos<p>, the last with or without
 * "-l0pos1".
 */
const FAMILIES: readonly { pattern: RegExp; make: (match: RegExpMatchArray, k: number) => Architecture }[] = [
  { pattern: /^top-?(\d+)$/, make: (m) => standard(Number(m[1])) },
  { pattern: /^shared(?:-expert)?(\d*)$/, make: (m, k) => shared(Number(m[1] || k)) },
  {
    pattern: /^scmoe-?(\d*)-pos([123])(-l0-?pos1)?$/,
    make: (m, k) => scmoe(Number(m[1] || k), Number(m[2]) as 1 | 2 | 3, m[3] ? 1 : undefined),
  },
  { pattern: /^farskip-?(\d*)$/, make: (m, k) => farskip(Number(m[1] || k)) },
  {
    // A layer of LongCat-Flash is two blocks; its second dense MLP is what is called a shared expert here.
    pattern: /^longcat(\d*)$/,
    make: (m, k) => ({
      ...scmoe(Number(m[1] || k), 2),
      coefficientGate: "none",
      shortcutNorm: "reuse",
      renormalize: false,
      balance: "bias",
    }),
  },
  {
    pattern: /^dense$/,
    make: () => ({
      wiring: "standard",
      routed: "none",
      topK: 0,
      sharedExpert: false,
      coefficientGate: "none",
    }),
  },
  {
    pattern: /^dgmoe(-share)?$/,
    make: (m) => ({
      wiring: "standard",
      routed: "dual",
      topK: 1,
      sharedExpert: false,
      position: 2,
      shareMoe: m[1] ? 2 : undefined,
      coefficientGate: "none",
    }),
  },
];

/** One name of each kind, for help; any k works in the families (method 5.1). */
export const ARCHITECTURE_NAMES = [
  "dense",
  "top1",
  "top2",
  "top3",
  "shared",
  "scmoe-pos1",
  "scmoe-pos2",
  "scmoe-pos3",
  "scmoe-pos2-l0pos1",
  "scmoe2-pos2",
  "dgmoe",
  "dgmoe-share",
  "longcat",
  "farskip",
  "farskip2",
] as const;

/**
 * What a name stands for.
 * @param topK k of a family whose name may carry it but does not ("shared", "scmoe-pos2", "farskip")
 * @throws InputError with a suggestion when the name is unknown
 */
export function architecture(name: string, topK = 1): Architecture {
  for (const { pattern, make } of FAMILIES) {
    const match = name.match(pattern);
    if (match !== null) return make(match, topK);
  }
  const near = didYouMean(name, ARCHITECTURE_NAMES);
  throw new InputError(
    `Unknown architecture "${name}"${near ? `: did you mean "${near}"?` : ""} (known: ${ARCHITECTURE_NAMES.join(", ")})`,
  );
}
