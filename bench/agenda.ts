/** Something that will happen, by its time. A binary heap. */
export class Agenda {
  readonly #items: { atMs: number; act: () => void }[] = [];

  /** Has something happen then. */
  add(atMs: number, act: () => void): void {
    let i = this.#items.push({ atMs, act }) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (this.#items[parent].atMs <= this.#items[i].atMs) break;
      [this.#items[parent], this.#items[i]] = [this.#items[i], this.#items[parent]];
      i = parent;
    }
  }

  /** Takes what happens next. */
  next(): { atMs: number; act: () => void } | undefined {
    const [first] = this.#items;
    const last = this.#items.pop();
    if (first === undefined || last === undefined || this.#items.length === 0) return first;
    this.#items[0] = last;
    for (let i = 0;;) {
      const left = 2 * i + 1;
      if (left >= this.#items.length) return first;
      const right = left + 1;
      const child = right < this.#items.length && this.#items[right].atMs < this.#items[left].atMs
        ? right
        : left;
      if (this.#items[i].atMs <= this.#items[child].atMs) return first;
      [this.#items[i], this.#items[child]] = [this.#items[child], this.#items[i]];
      i = child;
    }
  }
}
