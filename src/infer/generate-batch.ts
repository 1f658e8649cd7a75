/** Many texts at once, told in the order in which they were asked for. */
import type { Generator, Live, Written } from "./generate.js";
import type { GenerateRequest } from "./writing-options.js";

/** A request among others. */
export interface BatchRequest extends GenerateRequest {
  /** What messages call it. Default: its number, "request 0". */
  readonly where?: string | undefined;
}

/**
 * All of the requests together; each text is what it would be alone.
 * @param live hears of each text once it and all before it are written; when its signal is aborted, each text ends as it is
 * @throws InputError naming the first request that is refused, before anything is written
 */
export async function generateBatch(
  generator: Generator,
  requests: readonly BatchRequest[],
  live: Pick<Live, "signal"> & { readonly onWritten?: (written: Written, index: number) => void } = {},
): Promise<readonly Written[]> {
  const { signal, onWritten } = live;
  requests.forEach(({ where, ...request }, index) => generator.check(where ?? `request ${index}`, request));
  const failed = new AbortController();
  const ends = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  const texts = requests.map(async ({ where: _where, prompt, ...options }) => {
    try {
      return await generator.generate(prompt, options, { signal: ends });
    } catch (error) {
      // The others would go on unheard.
      failed.abort();
      throw error;
    }
  });
  const all = Promise.all(texts);
  all.catch(() => undefined);
  for (const [index, text] of texts.entries()) onWritten?.(await text, index);
  return all;
}
