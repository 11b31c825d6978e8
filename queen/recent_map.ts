/** A map of bounded size: what was used longest ago is forgotten first. */
export class RecentMap<Key, Value> {
  readonly #limit: number;
  readonly #values = new Map<Key, Value>();

  /** Empty. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many there are. */
  get size(): number {
    return this.#values.size;
  }

  /** Counts as a use. */
  get(key: Key): Value | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    this.#values.delete(key);
    this.#values.set(key, value);
    return value;
  }

  /** Counts as a use. */
  set(key: Key, value: Value): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    if (this.#values.size <= this.#limit) return;
    for (const oldest of this.#values.keys()) {
      this.#values.delete(oldest);
      return;
    }
  }
}

/** The same for values without more to them. */
export class RecentSet<Value> {
  readonly #values: RecentMap<Value, true>;

  /** Empty. */
  constructor(limit: number) {
    this.#values = new RecentMap(limit);
  }

  has(value: Value): boolean {
    return this.#values.get(value) === true;
  }

  add(value: Value): void {
    this.#values.set(value, true);
  }
}
