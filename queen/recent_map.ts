/** A map of bounded size: what was used longest ago is forgotten first. */
export class RecentMap<Key, Value> {
  readonly #limit: number;
  readonly #values = new Map<Key, Value>();
  /**
   * Stands before the oldest. Kept, because a map does not close the gaps of what was deleted at once, and a new iterator
   * would step over all of them each time.
   */
  #oldest: Iterator<Key> = this.#values.keys();

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
    if (this.#values.size > this.#limit) this.takeOldest();
  }

  /** Takes a value out. */
  take(key: Key): Value | undefined {
    const value = this.#values.get(key);
    this.#values.delete(key);
    return value;
  }

  /** Takes out what was used longest ago; undefined: nothing is left. */
  takeOldest(): Value | undefined {
    const { done, value: key } = this.#oldest.next();
    if (!done) return this.take(key);
    this.#oldest = this.#values.keys();
    return undefined;
  }

  /** Without counting as a use, as {@linkcode peek}. */
  has(key: Key): boolean {
    return this.#values.has(key);
  }

  /** Without counting as a use. */
  peek(key: Key): Value | undefined {
    return this.#values.get(key);
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
