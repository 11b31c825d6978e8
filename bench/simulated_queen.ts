/** Queue, placement and cluster of the real queen under the load of many keys, in time that is only computed. */
import { createLogger } from "../daemon/log.ts";
import { RbeeError } from "../protocol/errors.ts";
import { HEARTBEAT_INTERVAL_MS } from "../protocol/limits.ts";
import { CompletionRequest } from "../protocol/openai_schemas.ts";
import { BLOCK_TOKENS } from "../protocol/prefix_blocks.ts";
import { Cluster } from "../queen/cluster/cluster.ts";
import { Prefixes, promptTextOf } from "../queen/cluster/prefixes.ts";
import type { Lease, StartLoad } from "../queen/dispatch/lease.ts";
import { modelOf, promptTokensOf } from "../queen/dispatch/requests.ts";
import { Scheduler } from "../queen/dispatch/scheduler.ts";
import { CHARS_PER_TOKEN, TICK_INTERVAL_MS } from "../queen/limits.ts";
import { Random } from "../tests/soak/random.ts";
import { Agenda } from "./agenda.ts";
import { blocksOf, HIVES, MODELS, PREFIXES, SLOTS, WORKERS_PER_HIVE } from "./queen_reports.ts";
import { SimulatedHives } from "./simulated_hives.ts";
import { memoryMb } from "./simulation_figures.ts";
import { threadUs } from "./thread_clock.ts";

export const KEYS = 50;
export const QUEUE_LIMIT = 2_000;
/** Each key asks for so much of its share, or for twice as much. */
export const OVERLOAD = 1.3;
/** One prompt in so many is long. */
export const LONG_EVERY = 50;
export const LONG_TOKENS = 131_072;
const LONG_PROMPTS = 100;
const SHORT_CHARS = 2_048;
const TOKENS_PER_SECOND = 40;
/** One request in a thousand is for one of so many models that nobody has loaded; hives refuse one in four of these. */
const UNLOADED_MODELS = 20;
const LOAD_MS = 20_000;
const REFUSED_MS = 30_000;
const REPLICATE_AFTER_MS = 10_000;
/**
 * Fairness is measured in the last third: at first all get what they ask for, and who asked for most then is repaid that
 * for half a minute.
 */
const WARM_UP_PART = 2 / 3;
const SLOTS_IN_ALL = HIVES * WORKERS_PER_HIVE * SLOTS;

/** Half of the keys have a share of 1, half of 2. */
export function shareOf(key: number): number {
  return 1 + Number(key >= KEYS / 2);
}

/** Keys ask for answers of different lengths … */
function lengthOf(key: number): number {
  return 50 + 30 * (key % 10);
}

/** … and for more than their share, some for twice as much; in requests of a second. */
function perSecondOf(key: number): number {
  const shares = KEYS * 1.5;
  return OVERLOAD * (1 + key % 2) * shareOf(key) * SLOTS_IN_ALL * TOKENS_PER_SECOND / shares / lengthOf(key);
}

/** A request that is under way. */
interface Asked {
  key: number;
  tokens: number;
  priority: "interactive" | "batch";
  sinceMs: number;
  /** What a worker makes of its prompt. */
  blocks: ArrayLike<number>;
  text: ReturnType<typeof promptTextOf>;
}

/** See above. Times are what the thread has computed for, in µs. */
export class SimulatedQueen {
  readonly #random: Random;
  readonly #requests: number;
  readonly #agenda = new Agenda();
  readonly #cluster = new Cluster(0);
  readonly #prefixes = new Prefixes();
  readonly #hives: SimulatedHives;
  readonly #scheduler: Scheduler;
  readonly #longTexts = Array.from(
    { length: LONG_PROMPTS },
    (_, i) => textOf(i, CHARS_PER_TOKEN * LONG_TOKENS),
  );
  readonly #longBlocks = Array.from({ length: LONG_PROMPTS }, (_, i) => {
    const count = LONG_TOKENS / BLOCK_TOKENS;
    return Float64Array.from({ length: count }, (_, block) => 1e9 + i * count + block);
  });
  /** By key: answers that are being made, since when there are so many, and tokens that were made. */
  readonly #running = new Float64Array(KEYS);
  readonly #sinceMs = new Float64Array(KEYS);
  readonly #made = new Float64Array(KEYS);
  #madeBefore = new Float64Array(KEYS);
  #nowMs = 0;
  #arrived = 0;
  #underWay = 0;

  /** Tokens that each key was given while all of them wanted more than there was. */
  fair = new Float64Array(KEYS);
  readonly stateMb: number;
  readonly took = {
    decision: new Array<number>(),
    longDecision: new Array<number>(),
    before: new Array<number>(),
    longBefore: new Array<number>(),
    end: new Array<number>(),
    report: new Array<number>(),
    tick: new Array<number>(),
  };
  readonly counts = { served: 0, full: 0, unloadable: 0, hits: 0, loads: 0, refusedLoads: 0 };
  readonly longestMs = { interactive: 0, batch: 0 };

  /** All machines have reported. */
  constructor(options: { requests: number; seed: number }) {
    this.#requests = options.requests;
    this.#random = new Random(options.seed);
    this.#hives = new SimulatedHives(this.#random);
    this.#scheduler = new Scheduler({
      ...{ cluster: this.#cluster, queueLimit: QUEUE_LIMIT, replicateAfterMs: REPLICATE_AFTER_MS },
      startLoad: this.#load,
      log: createLogger({ part: "simulation", level: "error", format: "json", write: () => {} }),
      now: () => this.#nowMs,
    });
    const before = memoryMb();
    for (let hive = 0; hive < HIVES; hive++) this.#report(hive);
    this.stateMb = memoryMb() - before;
  }

  /** Simulated time. */
  get seconds(): number {
    return this.#nowMs / 1000;
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#scheduler.waiting;
  }

  /** Has all requests come and be answered. */
  async run(): Promise<void> {
    for (let hive = 0; hive < HIVES; hive++) {
      this.#every(HEARTBEAT_INTERVAL_MS, () => this.#report(hive), hive * HEARTBEAT_INTERVAL_MS / HIVES);
    }
    this.#every(TICK_INTERVAL_MS, () => {
      this.#timed(this.took.tick, () => {
        this.#scheduler.changed(this.#cluster.tick(this.#nowMs));
        this.#scheduler.tick();
      });
    });
    this.#nextArrival();
    while (this.#arrived < this.#requests || this.#underWay > 0) {
      const { atMs, act } = this.#agenda.next()!;
      this.#nowMs = atMs;
      act();
      // What was given is taken before time goes on.
      for (let i = 0; i < 4; i++) await Promise.resolve();
    }
  }

  #every(intervalMs: number, act: () => void, firstMs = intervalMs): void {
    this.#agenda.add(this.#nowMs + firstMs, () => {
      act();
      this.#every(intervalMs, act);
    });
  }

  #report(hive: number): void {
    const report = this.#hives.report(hive, this.#nowMs);
    this.#timed(this.took.report, () => {
      this.#scheduler.changed(this.#cluster.report(report, this.#nowMs, this.#nowMs));
    });
  }

  #timed<T>(into: number[], act: () => T): T {
    const beganUs = threadUs();
    const result = act();
    into.push(threadUs() - beganUs);
    return result;
  }

  #nextArrival(): void {
    const keys = KEYS_BY_DEMAND;
    if (this.#arrived === this.#requests) {
      this.fair = this.#madeByNow().map((tokens, key) => tokens - this.#madeBefore[key]);
      return;
    }
    const gapMs = -Math.log(1 - this.#random.next()) * 1000 / PER_SECOND;
    this.#agenda.add(this.#nowMs + gapMs, () => {
      if (this.#arrived === Math.floor(this.#requests * WARM_UP_PART)) {
        {
          this.#madeBefore = this.#madeByNow();
        }
      }
      this.#arrive(this.#random.pick(keys));
      this.#arrived++;
      this.#nextArrival();
    });
  }

  #arrive(key: number): void {
    const random = this.#random;
    const isLong = this.#arrived % LONG_EVERY === 0;
    // Each key has prompts of its own, which come again and again to the same model.
    const prompt = key + KEYS * random.integer(0, (isLong ? LONG_PROMPTS : PREFIXES) / KEYS - 1);
    const priority = random.chance(20) ? "batch" : "interactive";
    const name = random.integer(0, 999) === 0
      ? `hf:unloaded/model-${random.integer(0, UNLOADED_MODELS - 1)}`
      : `model-${Math.floor(prompt / KEYS + key) % MODELS}`;
    const body = {
      model: name,
      prompt: isLong ? this.#longTexts[prompt] : textOf(prompt, SHORT_CHARS),
      max_tokens: lengthOf(key),
    };
    const { took } = this;
    const { model, text } = this.#timed(isLong ? took.longBefore : took.before, () => {
      const request = CompletionRequest.parse(body);
      const model = modelOf(request.model, { cluster: this.#cluster });
      return { model, text: promptTextOf(model, { request: body, scope: `key-${key}` }) };
    });
    const blocks = isLong ? this.#longBlocks[prompt] : blocksOf(prompt);
    const asked = { key, tokens: lengthOf(key), priority, sinceMs: this.#nowMs, blocks, text } as const;
    const { signal } = new AbortController();
    this.#underWay++;
    const lease = this.#timed(isLong ? took.longDecision : took.decision, () =>
      this.#scheduler.acquire({
        ...{ id: String(this.#arrived), key: `key-${key}`, share: shareOf(key), model, priority },
        ...{ sinceMs: this.#nowMs, deadlineMs: Infinity, begun: false },
        // A slot's time is what there is too little of, and here only the answer takes it.
        tokens: lengthOf(key),
        promptTokens: promptTokensOf(text),
        blocks: this.#prefixes.blocksOf(text),
      }, { signal }));
    lease.then((lease) => this.#begin(lease, asked), (error) => this.#failed(error));
  }

  #begin(lease: Lease, asked: Asked): void {
    const { counts, longestMs } = this;
    const { key, tokens, priority, blocks } = asked;
    counts.served++;
    if (lease.sharedTokens > 0) counts.hits++;
    longestMs[priority] = Math.max(longestMs[priority], this.#nowMs - asked.sinceMs);
    this.#prefixes.learn(asked.text, blocks);
    this.#cluster.read(lease.worker, blocks);
    this.#hives.begun(lease.worker.id, blocks);
    this.#count(key, 1);
    this.#agenda.add(this.#nowMs + tokens * 1000 / TOKENS_PER_SECOND, () => {
      this.#count(key, -1);
      this.#underWay--;
      this.#hives.ended(lease.worker.id);
      this.#timed(this.took.end, () => lease.done(tokens));
    });
  }

  /** One more answer of a key, or one less. */
  #count(key: number, by: 1 | -1 | 0): void {
    this.#made[key] += this.#running[key] * (this.#nowMs - this.#sinceMs[key]) * TOKENS_PER_SECOND / 1000;
    this.#sinceMs[key] = this.#nowMs;
    this.#running[key] += by;
  }

  #madeByNow(): Float64Array<ArrayBuffer> {
    for (let key = 0; key < KEYS; key++) this.#count(key, 0);
    return this.#made.slice();
  }

  #failed(error: unknown): void {
    if (!(error instanceof RbeeError)) throw error;
    this.#underWay--;
    if (error.code === "QUEUE_FULL") this.counts.full++;
    else if (error.code === "WORKER_START_FAILED") this.counts.unloadable++;
    else throw error;
  }

  readonly #load: StartLoad = (load) => {
    this.counts.loads++;
    const node = this.#cluster.node(load.node)!;
    const over = this.#cluster.loading(node, load.model);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const hive = Number(load.node.split("-")[1]);
    if (load.evicts.length > 0) {
      this.#hives.evicted(hive, load.evicts);
      // Its hive reports that when the decision is made.
      queueMicrotask(() => this.#report(hive));
    }
    this.#agenda.add(this.#nowMs + LOAD_MS, () => {
      over();
      if (load.model.startsWith("hf:") && Number(load.model.split("-").at(-1)) % 4 === 0) {
        this.counts.refusedLoads++;
        const untilMs = this.#nowMs + REFUSED_MS;
        const refusal = { atMs: this.#nowMs, untilMs, code: "WORKER_START_FAILED", message: "no" };
        this.#cluster.refused(node, load.model, refusal);
        return reject(new Error("no"));
      }
      this.#hives.loaded(hive, { id: `loaded-${this.counts.loads}`, model: load.model });
      this.#report(hive);
      resolve();
    });
    return promise;
  };
}

const PER_SECOND = Array.from({ length: KEYS }, (_, key) => perSecondOf(key)).reduce(
  (sum, one) => sum + one,
  0,
);
/** Each as often as it asks. */
const KEYS_BY_DEMAND = Array.from(
  { length: KEYS },
  (_, key) => Array<number>(Math.round(10_000 * perSecondOf(key) / PER_SECOND)).fill(key),
).flat();

function textOf(prompt: number, chars: number): string {
  return `${prompt} `.padEnd(chars, "once upon ");
}
