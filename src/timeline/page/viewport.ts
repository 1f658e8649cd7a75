/** The stretch of time that is shown, and how far tracks are scrolled down. Pure but for its own state. */
export class Viewport {
  from = 0;
  to = 1;
  scroll = 0;
  #wholeMs = 1;

  /** @param wholeMs length of the longest side */
  fit(wholeMs: number): void {
    this.#wholeMs = wholeMs > 0 ? wholeMs * 1.01 : 1;
    this.from = 0;
    this.to = this.#wholeMs;
  }

  get span(): number {
    return this.to - this.from;
  }

  /** @param share of the shown stretch that keeps its place; @param factor below 1 shows less time */
  zoom(share: number, factor: number): void {
    const span = Math.min(this.#wholeMs, Math.max(1e-3, this.span * factor));
    const at = this.from + share * this.span;
    this.#set(at - share * span, span);
  }

  pan(ms: number): void {
    this.#set(this.from + ms, this.span);
  }

  show(from: number, to: number): void {
    const span = Math.min(this.#wholeMs, Math.max(1e-3, to - from));
    this.#set((from + to - span) / 2, span);
  }

  /** @param excess by how much the tracks are higher than what is seen of them */
  scrollBy(pixels: number, excess: number): void {
    this.scroll = Math.min(Math.max(0, excess), Math.max(0, this.scroll + pixels));
  }

  /** Never out of the step. */
  #set(from: number, span: number): void {
    this.from = Math.min(Math.max(0, from), this.#wholeMs - span);
    this.to = this.from + span;
  }
}

/** Distances between marks of an axis: 1, 2 or 5 times a power of ten, at most `most` marks. */
export function markDistance(span: number, most: number): number {
  const rough = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  for (const step of [1, 2, 5]) if (step * power >= rough) return step * power;
  return 10 * power;
}
