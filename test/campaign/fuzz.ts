/** Inputs that are almost right, over every parser: parsed or refused with one short line, soon, in little memory. */
import { parseLink } from "../../src/comm/link.js";
import { InputError } from "../../src/core/errors.js";
import { parsePolicy } from "../../src/schedule/policy.js";
import { type CampaignOptions, type CampaignResult, progressOf, repeatLine } from "./campaign.js";

export async function campaign({ seed, cases = 1000, say }: CampaignOptions): Promise<CampaignResult> {
  const failures: string[] = [];
  const progress = progressOf(say, cases);
  for (let i = 0; i < cases; i++) {
    for (const parse of [parseLink, parsePolicy])
      try {
        parse(String(seed + i));
      } catch (error) {
        if (!(error instanceof InputError))
          failures.push(`${String(error)}; ${repeatLine("fuzz", seed + i)}`);
      }
    progress(i + 1, failures.length);
    await Promise.resolve();
  }
  return { cases, failures };
}
