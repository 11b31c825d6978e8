/** An entry, between the one that was used before it and the one that was used after it. */
interface Entry<Key, Value> {
  readonly key: Key;
  value: Value;
  older?: Entry<Key, Value>;
  newer?: Entry<Key, Value>;
}

/**
 * A map of bounded size: what was used longest ago is forgotten first. The order stands in the entries, since a map whose
 * entries are deleted and set again for it is made anew again and again, and steps over its gaps to find the oldest.
 */
export class RecentMap<Key, Value> {
  readonly #limit: number;
  readonly #entries = new Map<Key, Entry<Key, Value>>();
  #oldest: Entry<Key, Value> | undefined;
  #newest: Entry<Key, Value> | undefined;

  /** Empty. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many there are. */
  get size(): number {
    return this.#entries.size;
  }

  /** Counts as a use. */
  get(key: Key): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#unlink(entry);
    this.#append(entry);
    return entry.value;
  }

  /** Counts as a use. */
  set(key: Key, value: Value): void {
    const entry = this.#entries.get(key) ?? { key, value };
    entry.value = value;
    if (this.#entries.has(key)) this.#unlink(entry);
    else this.#entries.set(key, entry);
    this.#append(entry);
    if (this.#entries.size > this.#limit) this.takeOldest();
  }

  /** Takes a value out. */
  take(key: Key): Value | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#unlink(entry);
    return entry.value;
  }

  /** Takes out what was used longest ago; undefined: nothing is left. */
  takeOldest(): Value | undefined {
    return this.#oldest === undefined ? undefined : this.take(this.#oldest.key);
  }

  /** Without counting as a use, as {@linkcode peek}. */
  has(key: Key): boolean {
    return this.#entries.has(key);
  }

  /** Without counting as a use. */
  peek(key: Key): Value | undefined {
    return this.#entries.get(key)?.value;
  }

  #append(entry: Entry<Key, Value>): void {
    entry.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.newer = entry;
    this.#newest = entry;
  }

  #unlink(entry: Entry<Key, Value>): void {
    const { older, newer } = entry;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    entry.older = entry.newer = undefined;
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
