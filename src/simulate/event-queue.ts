/** What is to happen next on the virtual clock: a heap of (time, key), the earliest first, of equals the lowest key. */
export class EventQueue {
  readonly #times: number[] = [];
  readonly #keys: number[] = [];

  get isEmpty(): boolean {
    return this.#times.length === 0;
  }

  add(time: number, key: number): void {
    let at = this.#times.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(time, key, parent)) break;
      this.#put(at, this.#times[parent], this.#keys[parent]);
      at = parent;
    }
    this.#put(at, time, key);
  }

  /** Removes the first event of a queue that is not empty. */
  next(): { readonly time: number; readonly key: number } {
    const found = { time: this.#times[0], key: this.#keys[0] };
    const time = this.#times.pop() as number;
    const key = this.#keys.pop() as number;
    const length = this.#times.length;
    if (length === 0) return found;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && this.#isBefore(this.#times[child + 1], this.#keys[child + 1], child)) child++;
      if (this.#isBefore(time, key, child)) break;
      this.#put(at, this.#times[child], this.#keys[child]);
      at = child;
    }
    this.#put(at, time, key);
    return found;
  }

  #isBefore(time: number, key: number, at: number): boolean {
    return time < this.#times[at] || (time === this.#times[at] && key < this.#keys[at]);
  }

  #put(at: number, time: number, key: number): void {
    this.#times[at] = time;
    this.#keys[at] = key;
  }
}
