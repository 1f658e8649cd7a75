/** A word that all ranks can read while they compute: whether they are asked to stop. */
export interface Stop {
  /** [1] shared: 0, or 1 once asked. */
  readonly word: Int32Array;
  readonly isAsked: () => boolean;
  /** Listens no longer. */
  readonly release: () => void;
}

export function stopOn(signal: AbortSignal | undefined): Stop {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const ask = (): void => void Atomics.store(word, 0, 1);
  if (signal?.aborted) ask();
  signal?.addEventListener("abort", ask);
  return {
    word,
    isAsked: () => Atomics.load(word, 0) > 0,
    release: () => signal?.removeEventListener("abort", ask),
  };
}
