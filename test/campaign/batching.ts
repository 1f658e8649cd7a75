/** Whatever comes and goes beside a request, it gets what it gets alone: random traces of requests on checked caches. */
import fc from "fast-check";
import { type Trace, traces, wrongIn } from "../batching-trace.js";
import { type CampaignOptions, type CampaignResult, progressOf, repeatLine } from "./campaign.js";

const TRACES = traces({ ranks: 4, requests: 60, steps: 80 });

export async function campaign({ seed, cases, say }: CampaignOptions): Promise<CampaignResult> {
  const count = cases ?? 100_000;
  const progress = progressOf(say, count);
  const failures: string[] = [];
  const totals = { requests: 0, preemptions: 0, newTokens: 0, prefixHitTokens: 0 };
  for (let done = 0; done < count; done++) {
    const [trace] = fc.sample(TRACES, { seed: seed + done, numRuns: 1 });
    const wrong = play(trace, totals);
    if (wrong !== undefined)
      failures.push(`seed ${seed + done}: ${wrong}; ${repeatLine("batching", seed + done)}`);
    if (done % 100 === 99) {
      progress(done + 1, failures.length);
      // An interrupt must be heard.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const { requests, preemptions, newTokens, prefixHitTokens } = totals;
  const notes = [
    `${requests} requests, ${newTokens} tokens, ${prefixHitTokens} tokens of prompts from blocks, ${preemptions} preemptions`,
  ];
  return { cases: count, failures, notes };
}

/** @returns what is wrong with a trace */
function play(
  trace: Trace,
  totals: { requests: number; preemptions: number; newTokens: number; prefixHitTokens: number },
): string | undefined {
  try {
    const { wrong, figures } = wrongIn(trace);
    totals.requests += trace.requests.length;
    totals.preemptions += figures.preemptions;
    totals.newTokens += figures.newTokens;
    totals.prefixHitTokens += figures.prefixHitTokens;
    return wrong.at(0);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
