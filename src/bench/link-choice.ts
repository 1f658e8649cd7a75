/** Chooses the link model's rate so that communication takes a wanted share of a sequential step. */
import { barrier, broadcastJson } from "../comm/collectives.js";
import type { Communicator } from "../comm/communicator.js";
import type { Link } from "../comm/link.js";
import { InputError } from "../core/errors.js";
import { median } from "../core/statistics.js";
import type { CompareMode, Contestants, MeasuredStep } from "./contestants.js";

export const BASELINE = { arch: "top2", policy: "sequential" } as const;

export interface LinkChoice {
  readonly link: Link;
  /** Communication over communication and compute, as measured with this link. */
  readonly share: number;
}

const ROUNDS = 4;
const ATTEMPTS = 3;
/** Close enough to what was asked for. */
const TOLERANCE = 0.01;

/**
 * Communication = share · (compute + communication) when nothing overlaps: estimated from bytes, then measured and set
 * right. Leaves the link in place.
 * @throws InputError between hosts, whose network has the rate it has, and when top-2 has nothing to send
 */
export function chooseLink(
  contestants: Contestants,
  wanted: { readonly share: number; readonly mode: CompareMode; readonly latencyMs: number },
): LinkChoice {
  const { world } = contestants.context;
  setLink(world, undefined);
  const baseline = contestants.enter(BASELINE.arch, BASELINE.policy, wanted.mode);
  const measure = (): { computeMs: number; communicationMs: number; bytes: number } => {
    const steps: MeasuredStep[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      contestants.context.progress(`measuring ${BASELINE.arch} to choose the link's rate`);
      steps.push(contestants.measure(baseline));
    }
    const of = (figure: (step: MeasuredStep) => number): number => median(steps.map(figure));
    return {
      computeMs: of((s) => s.timeline.summary.computeMs),
      communicationMs: of((s) => s.timeline.summary.communicationMs),
      bytes: of((s) => s.timeline.events.reduce((sum, e) => sum + (e.bytes ?? 0), 0)) / world.size,
    };
  };
  measure();
  const free = measure();
  if (free.bytes === 0)
    throw new InputError(
      "A share of communication cannot be reached: one rank sends nothing to anyone; take at least two ranks",
    );
  const odds = wanted.share / (1 - wanted.share);
  let bytesPerMs = free.bytes / (free.computeMs * odds);
  for (let attempt = 1; ; attempt++) {
    const link = broadcastJson(world, { bytesPerMs, latencyMs: wanted.latencyMs }, 0, "link");
    setLink(world, link);
    const { computeMs, communicationMs } = measure();
    const found = communicationMs / (communicationMs + computeMs);
    // Rank 0 decides for all: their medians may differ in the last bit.
    const choice = broadcastJson(world, { link, share: found }, 0, "link chosen");
    if (attempt === ATTEMPTS || Math.abs(choice.share - wanted.share) < TOLERANCE) return choice;
    bytesPerMs = link.bytesPerMs * (communicationMs / (computeMs * odds));
  }
}

function setLink(world: Communicator, link: Link | undefined): void {
  if (world.setLink === undefined)
    throw new InputError(
      "A link's rate is chosen only for ranks as threads; between hosts the network has the rate it has",
    );
  barrier(world, "before the link changes").wait();
  if (world.rank === 0) world.setLink(link);
  barrier(world, "after the link has changed").wait();
}
