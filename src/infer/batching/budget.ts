/** Rows of a cache, as its budget counts them. */
import { InputError } from "../../core/errors.js";
import type { RunnerShape } from "../step-plan.js";

/** Rows in whole granules: memory is committed in pages, not in rows. */
export function wholeGranules(rows: number, granule: number): number {
  return Math.ceil(rows / granule) * granule;
}

/**
 * Tokens that a sequence has at most, prompt and answer together: what a slot holds, as far as the budget pays for it.
 * @throws InputError when the budget does not pay for a prompt of one token and its answer
 */
export function contextLengthOf({ capacity, budgetRows, granule }: RunnerShape): number {
  const paid = Math.floor(budgetRows / granule) * granule;
  if (Math.min(paid, capacity) < 2)
    throw new InputError(
      `The cache's budget of ${budgetRows} rows in granules of ${granule}, and slots of ${capacity} rows, hold no sequence; wanted at least ${Math.max(granule, 2)} and 2: give the cache more memory`,
    );
  return Math.min(paid, capacity);
}
