/** One kind of hostile input against real workers: sent, looked at, judged. */
import { delay } from "@std/async";
import { join } from "@std/path";
import { entryAt, foundCount } from "./corpus.ts";
import { type ClosingEntry, type Entry, type Ground, type Kind, KINDS, type ModelEntry } from "./entry.ts";
import {
  alive,
  exportedState,
  freedMs,
  type Outcome,
  post,
  sendConnections,
  sendRequest,
  sendState,
  slots,
  wrong,
} from "./send.ts";
import { readStream, streamOf } from "./neighbour.ts";
import { type Figures, percentile, type Witness } from "./witness.ts";
import { type HostileWorker, LoadRefused, startGround, startWith } from "./workers.ts";
import { STORIES } from "../helpers/test_models.ts";
import { Random } from "../soak/random.ts";

/** What may be, at `--bounds 1`. */
const HEALTH_P99_MS = 50;
const LONGEST_GAP_MS = 500;
const FREED_MS = 500;
const ABOVE_PLAN_MEGABYTES = 256;
/** A worker with more is killed before it takes the machine along. */
const MOST_MEGABYTES = 4_000;
const NEIGHBOUR_TOKENS = 2_000;
/** One in so many entries is left in the middle. */
const LEAVE_EVERY = 5;
const LEAVE_AFTER_MAX_MS = 300;
/** With so many workers lost, the rest of a kind says nothing new. */
const MOST_LOST = 5;
const ALIVE_LIMIT_MS = 5_000;
const CLOSE_LIMIT_MS = 45_000;
const SHOWN_PROBLEMS = 8;
/** Characters of a log. */
const LAST_WORDS = 300;

/** What a run is to do. */
export interface HostileRun {
  perKind: number;
  seed: number;
  only: readonly Kind[];
  index?: number;
  scale: number;
  /** Factor of the bounds on time and memory. */
  bounds: number;
  patienceMs: number;
  /** More environment of the workers. */
  env?: Readonly<Record<string, string>>;
  /** Another checkout whose workers they are. */
  root?: string;
  /** Looks at what a worker wrote before it ended; each line is a problem. */
  findings?: (logs: string) => string[];
}

/** One kind: its entries one after the other, each against the worker it is for. */
export class KindRun {
  readonly #workers = new Map<Ground, HostileWorker>();
  readonly #outcomes = new Map<string, number>();
  readonly #problems: string[] = [];
  readonly #random: Random;
  readonly #freedMs: number[] = [];
  #plainMegabytes = 0;
  #state: Uint8Array<ArrayBuffer> | undefined;
  #tried = 0;
  #failed = 0;
  #lost = 0;
  #slowest = { ms: 0, label: "" };

  constructor(
    readonly how: HostileRun,
    readonly kind: Kind,
    readonly with_: { folder: string; witness: Witness },
  ) {
    this.#random = new Random(how.seed, 99);
  }

  async run(): Promise<{ passed: number; failed: number }> {
    const { index, perKind } = this.how;
    const count = foundCount(this.kind) + perKind;
    const indices = index === undefined ? Array.from({ length: count }, (_, i) => i) : [index];
    // Something runs before the first hostile input comes: an undisturbed stream to compare with.
    const first = entryAt(this.kind, { ...this.how, index: indices[0] });
    if (first.act === "request" || first.act === "state" || first.act === "connections") {
      await this.#worker(first.act === "request" ? first.ground : "answers");
    }
    if (first.act === "model") await this.#measurePlainModel();
    for (const i of indices) {
      if (this.#lost >= MOST_LOST) {
        this.#problem(
          `${indices.length - this.#tried} entries were not tried: ${this.#lost} workers are lost already`,
        );
        break;
      }
      await this.#try(entryAt(this.kind, { ...this.how, index: i }), i);
    }
    this.with_.witness.label(`${this.kind}: after`);
    const figures = await this.with_.witness.collect();
    for (const [ground, worker] of this.#workers) await this.#checkAndStop(ground, worker);
    // What was seen while they were stopped belongs to no kind.
    await this.with_.witness.collect();
    this.#judge(figures);
    return { passed: this.#tried - this.#failed, failed: this.#problems.length };
  }

  async #try(entry: Entry, index: number): Promise<void> {
    this.#tried++;
    const label = `${this.kind}[${index}] ${entry.name.slice(0, 80)}`;
    this.with_.witness.label(label);
    const before = this.#problems.length;
    let outcome: Outcome;
    try {
      outcome = await this.#send(entry, { label, leave: this.#random.chance(100 / LEAVE_EVERY) });
    } catch (error) {
      outcome = { what: "failed", message: String(error).slice(0, 300), ms: 0 };
    }
    const code = outcome.code === undefined ? outcome.what : `${outcome.what} ${outcome.code}`;
    this.#outcomes.set(code, (this.#outcomes.get(code) ?? 0) + 1);
    if (outcome.ms > this.#slowest.ms) this.#slowest = { ms: outcome.ms, label };
    const problem = wrong(outcome, entry.right);
    if (problem !== undefined) this.#problem(`${label}: ${problem}`);
    if (entry.act === "request" || entry.act === "state" || entry.act === "connections") {
      await this.#checkAlive(entry.act === "request" ? entry.ground : "answers", label);
    }
    if (this.#problems.length > before) this.#failed++;
  }

  async #send(entry: Entry, { label, leave }: { label: string; leave: boolean }): Promise<Outcome> {
    const sending = { limitMs: this.how.patienceMs };
    switch (entry.act) {
      case "request": {
        const worker = await this.#worker(entry.ground);
        if (!leave || !entry.generates || entry.right !== "either") {
          return await sendRequest(worker, entry, sending);
        }
        const outcome = await sendRequest(worker, entry, {
          ...sending,
          leaveAfterMs: this.#random.integer(5, LEAVE_AFTER_MAX_MS),
          byDelete: this.#random.chance(50),
        });
        if (outcome.what === "left") await this.#checkFreed(worker, label);
        return outcome;
      }
      case "state": {
        const worker = await this.#worker("answers");
        this.#state ??= await exportedState(worker);
        return await sendState(worker, { entry, state: this.#state }, sending);
      }
      case "connections":
        return await sendConnections(await this.#worker("answers"), entry);
      case "model":
        return await this.#tryModel(entry, label);
      case "closing":
        return await this.#tryClosing(entry);
    }
  }

  /** The neighbour keeps its slot; every other has to be free. */
  async #checkFreed(worker: HostileWorker, label: string): Promise<void> {
    try {
      this.#freedMs.push(await freedMs(worker, 1, this.how.patienceMs));
    } catch {
      this.#freedMs.push(this.how.patienceMs);
      this.#problem(`${label}: the slot was not free ${this.how.patienceMs} ms after its caller had left`);
      await this.#replace("answers");
    }
  }

  async #worker(ground: Ground): Promise<HostileWorker> {
    const running = this.#workers.get(ground);
    if (running !== undefined) return running;
    const { witness } = this.with_;
    const worker = await startGround(ground, this.#started());
    this.#workers.set(ground, worker);
    // The baseline: nothing disturbs the neighbour yet, and memory that a first request takes does not count as growth.
    const neighbour = ground === "answers" || ground === "long answers"
      ? await undisturbed(worker)
      : undefined;
    witness.watch({
      ...{ url: worker.url, key: worker.key, pid: worker.pid, neighbour },
      planMegabytes: await megabytesOf(worker.pid),
      mostMegabytes: MOST_MEGABYTES,
    });
    return worker;
  }

  async #checkAlive(ground: Ground, label: string): Promise<void> {
    const worker = this.#workers.get(ground);
    if (
      worker === undefined ||
      await alive(worker, ALIVE_LIMIT_MS * this.how.bounds) && !await this.#stuck(worker)
    ) return;
    const ended = await Promise.race([worker.over, delay(0).then(() => undefined)]);
    const how = ended === undefined
      ? "stuck"
      : `gone (${ended.signal ?? ended.code}): ${worker.daemon.logs().slice(-LAST_WORDS)}`;
    this.#problem(`${label}: the worker is ${how}`);
    await this.#replace(ground);
  }

  /** Whether slots stay taken by nobody. */
  async #stuck(worker: HostileWorker): Promise<boolean> {
    if ((await slots(worker)).busy <= 1) return false;
    return await freedMs(worker, 1, this.how.patienceMs / 2).then(() => false, () => true);
  }

  async #replace(ground: Ground): Promise<void> {
    const worker = this.#workers.get(ground);
    if (worker === undefined) return;
    this.#lost++;
    this.#workers.delete(ground);
    this.with_.witness.leave(worker.pid);
    this.#look(worker);
    await worker[Symbol.asyncDispose]();
    this.#state = undefined;
  }

  async #checkAndStop(ground: Ground, worker: HostileWorker): Promise<void> {
    this.with_.witness.leave(worker.pid);
    if (await this.#stuck(worker).catch(() => true)) this.#problem(`${ground}: slots stay taken`);
    const { success, code, signal } = await worker.daemon.stop();
    if (!success) this.#problem(`${ground}: the worker left with ${signal ?? `status ${code}`}`);
    this.#look(worker);
    await worker[Symbol.asyncDispose]();
  }

  #look(worker: HostileWorker): void {
    for (const finding of this.how.findings?.(worker.daemon.logs()) ?? []) this.#problem(finding);
  }

  #started() {
    const { env, root } = this.how;
    return { folder: this.with_.folder, env, root };
  }

  async #measurePlainModel(): Promise<void> {
    await using worker = await startWith(STORIES, ["--slots", "2"], this.#started());
    this.#plainMegabytes = await megabytesOf(worker.pid);
  }

  async #tryModel(entry: ModelEntry, label: string): Promise<Outcome> {
    const startedMs = performance.now();
    const ms = () => performance.now() - startedMs;
    const path = join(this.with_.folder, "hostile.gguf");
    await Deno.writeFile(path, entry.file());
    let worker: HostileWorker;
    try {
      worker = await startWith(path, ["--slots", "2"], this.#started());
    } catch (error) {
      if (error instanceof LoadRefused) return { what: "refused", code: `load ${error.code}`, ms: ms() };
      this.#lost++;
      return { what: "failed", message: String(error).slice(0, 300), ms: ms() };
    }
    const { witness } = this.with_;
    witness.watch({
      ...{ url: worker.url, key: worker.key, pid: worker.pid },
      planMegabytes: this.#plainMegabytes,
      mostMegabytes: MOST_MEGABYTES,
    });
    try {
      let worst: Outcome = { what: "answered", ms: ms() };
      for (const { path, body } of entry.requests) {
        const outcome = await post(worker, { path, body: JSON.stringify(body) }, {
          limitMs: this.how.patienceMs,
        });
        if (outcome.what !== "answered" && worst.what === "answered") worst = outcome;
        if (outcome.what === "stuck" || outcome.what === "failed") {
          worst = { ...outcome, message: `${path}: ${outcome.message ?? ""}` };
          break;
        }
      }
      if (await alive(worker, ALIVE_LIMIT_MS * this.how.bounds)) return worst;
      this.#lost++;
      this.#problem(`${label}: the worker is gone or stuck`);
      return worst;
    } finally {
      witness.leave(worker.pid);
      this.#look(worker);
      await worker[Symbol.asyncDispose]();
    }
  }

  async #tryClosing(entry: ClosingEntry): Promise<Outcome> {
    const startedMs = performance.now();
    await using worker = await startWith(STORIES, ["--slots", "4"], this.#started());
    const sent = entry.requests.map(({ path, body }) =>
      post(worker, { path, body: body() }, { limitMs: CLOSE_LIMIT_MS, leaveAfterMs: entry.leaveAfterMs })
    );
    await delay(entry.leaveAfterMs + entry.closeAfterMs);
    const left = worker.daemon.stop();
    await Promise.all(sent);
    const { success, signal, code } = await left;
    this.#look(worker);
    const ms = performance.now() - startedMs;
    if (success) return { what: "answered", ms };
    this.#lost++;
    return { what: "failed", message: `the worker left with ${signal ?? `status ${code}`}`, ms };
  }

  #problem(text: string): void {
    this.#problems.push(text);
    if (this.#problems.length <= SHOWN_PROBLEMS) console.log(`failed: ${text}`);
  }

  /** The figures against the bounds, and the row of the table. */
  #judge(figures: Figures): void {
    const { bounds } = this.how;
    const p99 = percentile(figures.healthMs, 99);
    const freed = this.#freedMs.length === 0 ? undefined : Math.max(...this.#freedMs);
    const { slowestHealth, longestGap, mostMegabytes } = figures;
    if (p99 > HEALTH_P99_MS * bounds) {
      this.#problem(
        `health: p99 ${p99.toFixed(0)} ms, longest ${
          slowestHealth.ms.toFixed(0)
        } ms at ${slowestHealth.label}`,
      );
    }
    if (longestGap.ms > LONGEST_GAP_MS * bounds) {
      this.#problem(`a neighbour waited ${longestGap.ms.toFixed(0)} ms for a token at ${longestGap.label}`);
    }
    if (mostMegabytes.above > ABOVE_PLAN_MEGABYTES * bounds) {
      this.#problem(`memory: ${mostMegabytes.above.toFixed(0)} MB above plan at ${mostMegabytes.label}`);
    }
    if (freed !== undefined && freed > FREED_MS * bounds) {
      this.#problem(`a slot was free ${freed.toFixed(0)} ms after a cancel`);
    }
    for (const lost of figures.lost) this.#problem(`a neighbour's stream lost something: ${lost}`);
    for (const killed of figures.killed) this.#problem(`killed for its memory: ${killed}`);
    const outcomes = [...this.#outcomes].sort(([, a], [, b]) => b - a).map(([what, count]) =>
      `${count} ${what}`
    );
    const lines = [
      `${this.kind} ${
        KINDS[this.kind]
      }: ${this.#tried} tried, ${this.#failed} wrong, ${this.#lost} workers lost`,
      outcomes.join(", "),
      `slowest answer ${this.#slowest.ms.toFixed(0)} ms (${this.#slowest.label})`,
    ];
    if (figures.healthMs.length > 0) {
      lines.push(
        `health: p99 ${p99.toFixed(1)} ms of ${figures.healthMs.length}, longest ${
          slowestHealth.ms.toFixed(0)
        } ms (${slowestHealth.label})`,
        `memory: at most ${mostMegabytes.megabytes.toFixed(0)} MB, ${
          mostMegabytes.above.toFixed(0)
        } MB above plan (${mostMegabytes.label})`,
      );
    }
    if (figures.streams + figures.lost.length > 0) {
      lines.push(
        `neighbour: ${figures.streams} streams of ${NEIGHBOUR_TOKENS} tokens came whole, ${figures.lost.length} did not, ` +
          `longest gap ${longestGap.ms.toFixed(0)} ms (${longestGap.label})`,
      );
    }
    if (freed !== undefined) {
      lines.push(`cancel: ${this.#freedMs.length}, a slot was free after ${freed.toFixed(0)} ms at most`);
    }
    console.log(lines.join("\n  "));
  }
}

async function undisturbed(worker: HostileWorker): Promise<{ tokens: number; text: string }> {
  const tokens = NEIGHBOUR_TOKENS;
  const read = readStream(await streamOf(worker, { tokens }) ?? "", tokens);
  if ("lost" in read) throw new Error(`An undisturbed stream loses ${read.lost}`);
  return { tokens, text: read.text };
}

/** Memory of a process that no file stands behind. */
async function megabytesOf(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024 / 1e6;
}
