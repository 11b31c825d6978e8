/**
 * Who is served next: plain data and no clock of its own, so that it can be simulated. Keys share what there is by
 * start-time fair queueing: each has a virtual time that grows with the tokens it was given, divided by its share, and
 * the one that is furthest behind comes first. Interactive work goes before batch work until that has waited for
 * {@linkcode BATCH_PROMOTED_AFTER_MS}; work of one key keeps its order.
 */
import { RbeeError } from "../../protocol/errors.ts";
import { BATCH_PROMOTED_AFTER_MS } from "../limits.ts";

/** How urgent work is. */
export type Priority = "interactive" | "batch";

/** Something that waits. */
export interface Waiting {
  readonly id: string;
  /** Whose it is. */
  readonly key: string;
  /** Of that key, among others: twice the share, twice the tokens. */
  readonly share: number;
  /** Only work for the same model competes for the same workers. */
  readonly model: string;
  readonly priority: Priority;
  /** Milliseconds on the caller's clock; work that was given back keeps its own. */
  readonly sinceMs: number;
  /** What it will probably take. */
  readonly tokens: number;
  /** It was begun before: it goes first, and is let in whatever waits. */
  readonly begun?: boolean;
  /** It was accepted before, see {@linkcode FairQueue.reserve}: it is let in whatever waits. */
  readonly accepted?: boolean;
}

/** First in, first out, by `sinceMs`; nearly always in that order already. */
class Line {
  #items: Waiting[] = [];
  #start = 0;

  get first(): Waiting | undefined {
    return this.#items[this.#start];
  }

  get size(): number {
    return this.#items.length - this.#start;
  }

  add(item: Waiting): void {
    let at = this.#items.length;
    while (at > this.#start && this.#items[at - 1].sinceMs > item.sinceMs) at--;
    this.#items.splice(at, 0, item);
  }

  remove(item: Waiting): void {
    if (this.first === item) this.#start++;
    else this.#items.splice(this.#items.indexOf(item, this.#start), 1);
    if (this.#start < 64 || this.#start * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#start);
    this.#start = 0;
  }

  *[Symbol.iterator](): Generator<Waiting> {
    for (let at = this.#start; at < this.#items.length; at++) yield this.#items[at];
  }
}

/** What one key has waiting for one model. */
type Lines = Record<Priority, Line>;

interface KeyState {
  virtualTime: number;
  share: number;
  /** Places that were promised to it count as well. */
  waiting: number;
  /** Work that was given to it and has not ended. */
  running: number;
}

interface ModelState {
  begun: Line;
  keys: Map<string, Lines>;
  size: number;
}

/** Everything that waits. */
export class FairQueue {
  readonly #limit: number;
  readonly #retryAfterSeconds: (model: string) => number | undefined;
  readonly #items = new Map<string, Waiting>();
  readonly #models = new Map<string, ModelState>();
  readonly #keys = new Map<string, KeyState>();
  #reserved = 0;
  /** That of the work which was given out last: who comes back from idleness begins here. */
  #virtualTime = 0;

  /** At most `limit` wait, apart from what was begun. Who finds no place is told when to come back. */
  constructor(options: { limit: number; retryAfterSeconds?: (model: string) => number }) {
    this.#limit = options.limit;
    this.#retryAfterSeconds = options.retryAfterSeconds ?? (() => undefined);
  }

  /** How many wait. */
  get size(): number {
    return this.#items.size;
  }

  /** Models that somebody waits for. */
  models(): IterableIterator<string> {
    return this.#models.keys();
  }

  /** How many wait for a model. */
  sizeOf(model: string): number {
    return this.#models.get(model)?.size ?? 0;
  }

  /**
   * Lets something in. While several keys have something waiting none may fill more than its share of the queue, or
   * whoever comes second would find it full.
   *
   * @throws {RbeeError} `QUEUE_FULL`.
   */
  add(item: Waiting): void {
    if (!item.begun && !item.accepted) this.#requirePlace(item);
    const key = this.#keyOf(item);
    key.share = item.share;
    key.waiting++;
    this.#items.set(item.id, item);
    const model = this.#modelOf(item.model);
    model.size++;
    if (item.begun) model.begun.add(item);
    else linesOf(model, item.key)[item.priority].add(item);
  }

  /**
   * Promises a place, for what has to be written down before it may wait. Call the returned function right before
   * {@linkcode add}, or when it won't come; idempotent.
   *
   * @throws {RbeeError} `QUEUE_FULL`.
   */
  reserve(item: Pick<Waiting, "key" | "share" | "model">): () => void {
    this.#requirePlace(item);
    const key = this.#keyOf(item);
    key.share = item.share;
    key.waiting++;
    this.#reserved++;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      key.waiting--;
      this.#reserved--;
      this.#rest(item.key);
    };
  }

  /** Takes something out that need not be served any more. */
  remove(id: string): void {
    const item = this.#items.get(id);
    if (item === undefined) return;
    this.#take(item);
    this.#rest(item.key);
  }

  /** What is to be served next of those that wait for a model; it stays where it is. */
  next(model: string, nowMs: number): Waiting | undefined {
    const state = this.#models.get(model);
    if (state === undefined) return undefined;
    if (state.begun.first !== undefined) return state.begun.first;
    let best: { item: Waiting; urgent: boolean; virtualTime: number } | undefined;
    for (const [name, lines] of state.keys) {
      const head = headOf(lines, nowMs);
      if (head === undefined) continue;
      const { virtualTime } = this.#keys.get(name)!;
      if (best === undefined || comesBefore({ ...head, virtualTime }, best)) best = { ...head, virtualTime };
    }
    return best?.item;
  }

  /** Gives something out: its key is charged for it. */
  serve(id: string): void {
    const item = this.#items.get(id)!;
    const key = this.#keys.get(item.key)!;
    this.#take(item);
    key.running++;
    this.#virtualTime = Math.max(this.#virtualTime, key.virtualTime);
    key.virtualTime += item.tokens / item.share;
  }

  /** What was given out has ended, or waits again; it took so many tokens instead of those that were expected. */
  ended(item: Waiting, tokens: number): void {
    const key = this.#keys.get(item.key)!;
    key.running--;
    key.virtualTime += (tokens - item.tokens) / item.share;
    this.#rest(item.key);
  }

  /** Since when the one that has waited for longest does so; Infinity: nobody waits. */
  oldestMs(model: string): number {
    let oldestMs = Infinity;
    const state = this.#models.get(model);
    if (state === undefined) return oldestMs;
    const lines = [...state.keys.values()].flatMap(({ interactive, batch }) => [interactive, batch]);
    for (const { first } of [state.begun, ...lines]) {
      if (first !== undefined) oldestMs = Math.min(oldestMs, first.sinceMs);
    }
    return oldestMs;
  }

  /** The ids that wait for a model in the order in which they will be served, as far as that can be told now. */
  order(model: string, nowMs: number): string[] {
    const state = this.#models.get(model);
    if (state === undefined) return [];
    const order = [...state.begun].map(({ id }) => id);
    const keys = [...state.keys].map(([name, lines]) => ({
      virtualTime: this.#keys.get(name)!.virtualTime,
      // What is urgent of one key comes in the order of its time, whatever it was at first.
      items: [...lines.interactive, ...lines.batch]
        .map((item) => ({ item, urgent: isUrgent(item, nowMs) }))
        .sort((a, b) => Number(b.urgent) - Number(a.urgent) || a.item.sinceMs - b.item.sinceMs),
    }));
    for (;;) {
      let best: (typeof keys)[number] | undefined;
      for (const key of keys) {
        if (key.items.length === 0) continue;
        const rank = { ...key.items[0], virtualTime: key.virtualTime };
        if (
          best === undefined || comesBefore(rank, { ...best.items[0], virtualTime: best.virtualTime })
        ) best = key;
      }
      if (best === undefined) return order;
      const { item } = best.items.shift()!;
      best.virtualTime += item.tokens / item.share;
      order.push(item.id);
    }
  }

  #requirePlace(item: Pick<Waiting, "key" | "share" | "model">): void {
    if (this.#items.size + this.#reserved >= this.#limit) {
      throw new RbeeError("QUEUE_FULL", `All ${this.#limit} places of the queue are taken.`, {
        details: { queue_limit: this.#limit },
        retryAfterSeconds: this.#retryAfterSeconds(item.model),
      });
    }
    const own = this.#keys.get(item.key)?.waiting ?? 0;
    const places = this.#placesOf(item);
    if (own < places) return;
    throw new RbeeError(
      "QUEUE_FULL",
      `${own} requests of this key are waiting, its share of the queue beside those of others.`,
      {
        details: { queue_limit: this.#limit, queue_share: places },
        retryAfterSeconds: this.#retryAfterSeconds(item.model),
      },
    );
  }

  /** Places for a key while others wait as well; all of them when nobody does. */
  #placesOf(item: Pick<Waiting, "key" | "share">): number {
    let shares = item.share;
    for (const [name, { waiting, share }] of this.#keys) {
      if (name !== item.key && waiting > 0) shares += share;
    }
    return Math.max(1, Math.floor(this.#limit * item.share / shares));
  }

  #keyOf(item: Pick<Waiting, "key" | "share">): KeyState {
    let key = this.#keys.get(item.key);
    if (key === undefined) {
      key = { virtualTime: this.#virtualTime, share: item.share, waiting: 0, running: 0 };
      this.#keys.set(item.key, key);
    } else if (key.waiting === 0 && key.running === 0) {
      // Nobody saves up while idle, and nobody is forgiven what was taken a moment ago.
      key.virtualTime = Math.max(key.virtualTime, this.#virtualTime);
    }
    return key;
  }

  #modelOf(name: string): ModelState {
    let model = this.#models.get(name);
    if (model === undefined) {
      model = { begun: new Line(), keys: new Map(), size: 0 };
      this.#models.set(name, model);
    }
    return model;
  }

  #take(item: Waiting): void {
    this.#items.delete(item.id);
    this.#keys.get(item.key)!.waiting--;
    const model = this.#models.get(item.model)!;
    model.size--;
    if (item.begun) {
      model.begun.remove(item);
    } else {
      const lines = model.keys.get(item.key)!;
      lines[item.priority].remove(item);
      if (lines.interactive.size + lines.batch.size === 0) model.keys.delete(item.key);
    }
    if (model.size === 0) this.#models.delete(item.model);
  }

  /** A key that nothing is known of any more but an old time need not be kept. */
  #rest(name: string): void {
    const key = this.#keys.get(name)!;
    const idle = key.waiting === 0 && key.running === 0;
    if (idle && key.virtualTime <= this.#virtualTime) this.#keys.delete(name);
  }
}

function linesOf(model: ModelState, key: string): Lines {
  let lines = model.keys.get(key);
  if (lines === undefined) {
    lines = { interactive: new Line(), batch: new Line() };
    model.keys.set(key, lines);
  }
  return lines;
}

function isUrgent(item: Waiting, nowMs: number): boolean {
  return item.priority === "interactive" || nowMs - item.sinceMs >= BATCH_PROMOTED_AFTER_MS;
}

/** What one key would be given next. */
function headOf(lines: Lines, nowMs: number): { item: Waiting; urgent: boolean } | undefined {
  const { interactive: { first: interactive }, batch: { first: batch } } = lines;
  if (batch === undefined) return interactive && { item: interactive, urgent: true };
  const urgent = isUrgent(batch, nowMs);
  if (interactive === undefined || (urgent && batch.sinceMs <= interactive.sinceMs)) {
    return { item: batch, urgent };
  }
  return { item: interactive, urgent: true };
}

interface Rank {
  item: Waiting;
  urgent: boolean;
  virtualTime: number;
}

function comesBefore(a: Rank, b: Rank): boolean {
  if (a.urgent !== b.urgent) return a.urgent;
  if (a.virtualTime !== b.virtualTime) return a.virtualTime < b.virtualTime;
  return a.item.sinceMs < b.item.sinceMs;
}
