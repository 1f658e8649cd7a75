/** What a conversion gains in time: the source one operator after another against the target overlapped. */
import type { Link } from "../comm/link.js";
import { type ModelConfig, modelToJson } from "../model/config.js";
import type { ModelInput } from "../model/config.js";
import { compare } from "./compare.js";
import { plan } from "./plan.js";
import type { RunOptions } from "./run-options.js";

/** The link that the gain is asked for: of two ranks of this machine, measured, or of a cluster, predicted. */
export interface GainOptions {
  /** "100mbit", "1gbit,50us". */
  readonly link?: string | Link | undefined;
  /** Or one so slow that communication takes this share of a forward step of sequential top-2. */
  readonly communicationShare?: number | undefined;
  /** Or the links of a cluster, by its name. */
  readonly cluster?: string | undefined;
}

/** A step of source and target, in ms. */
export interface GainRow {
  readonly mode: "forward" | "train";
  readonly sourceMs: number;
  readonly targetMs: number;
  readonly speedUp: number;
}

const MODES = ["forward", "train"] as const;
const RANKS = 2;

/** @returns undefined where no link is asked for @throws InputError as `compare` and `plan` */
export async function conversionGain(
  { source, target }: { readonly source: ModelConfig; readonly target: ModelConfig },
  { link, communicationShare, cluster }: GainOptions,
  how: Pick<RunOptions, "signal" | "onEvent"> & {
    readonly batch?: number | undefined;
    readonly sequence?: number | undefined;
  },
): Promise<GainRow[] | undefined> {
  const cases = [
    { arch: source.arch, policy: "sequential" },
    { arch: target.arch, policy: "adaptive" },
  ];
  const model = withoutArchitecture(target);
  const { batch, sequence } = how;
  const rows = (of: (mode: (typeof MODES)[number]) => readonly number[]): GainRow[] =>
    MODES.map((mode) => {
      const [sourceMs, targetMs] = of(mode);
      return { mode, sourceMs, targetMs, speedUp: sourceMs / targetMs };
    });
  if (cluster !== undefined)
    return rows((mode) =>
      plan({ model: { ...model, arch: "" }, cluster, cases, mode, batch, sequence }).rows.map(
        (row) => row.stepMs,
      ),
    );
  if (link === undefined && communicationShare === undefined) return undefined;
  const result = await compare({
    model,
    cases,
    modes: MODES,
    ranks: RANKS,
    link,
    communicationShare,
    ...how,
  });
  return rows((mode) => result.rows.filter((row) => row.mode === mode).map((row) => row.stepMs));
}

function withoutArchitecture(config: ModelConfig): Omit<ModelInput, "arch"> {
  const { arch: _arch, coefficient_gate: _gate, num_experts_per_tok: _k, ...model } = modelToJson(config);
  return model as Omit<ModelInput, "arch">;
}
