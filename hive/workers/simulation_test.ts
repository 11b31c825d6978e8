/** A day of a hive in seconds: whatever happens, what has to hold holds. */
import { assert, assertEquals } from "@std/assert";
import { Random } from "../../tests/soak/random.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import type { WorkerInfo, WorkerState } from "../../protocol/hive_schemas.ts";
import { SpawnRequest } from "../../protocol/spawn_request.ts";
import { FAULTS, RUNTIME_MB, type SimulatedWorker } from "./simulated_worker_test_bed.ts";
import { Machine, RESERVE_MB, TOTAL_MB } from "./simulation_test_bed.ts";
import { CRASH_CAUSES, isCrash, type WorkerEvent } from "./worker_options.ts";

const EVENTS = 10_000;
const DAY_MS = 86_400_000;
/** Models by their size in MB: not all fit at once. */
const MODELS = [200, 500, 900, 1_500, 2_500, 4_000];
/** Latest that a worker whose idle time is over is gone: asked, and killed by the ladder if it stays. */
const IDLE_MARGIN_MS = 40_000;

/** Longest stay in a state: its limit, and the ladder where that has to end it. */
const LONGEST_MS: Partial<Record<WorkerState, number>> = {
  starting: 30_000,
  loading: 300_000,
  draining: 45_000,
  failed: 320_000,
};

/** One simulated day, its seed and everything that is counted. */
class Day {
  readonly counts = new Map<string, number>();
  readonly random: Random;
  readonly machine: Machine;
  #spawning = 0;
  /** What was wrong in the moment of an event: whoever sends it may catch what is thrown. */
  readonly #wrong: unknown[] = [];
  /** Those that have agreed to leave. */
  readonly #left = new Set<string>();
  /** When each worker was last given to somebody who asked for one like it, in ms of the day. */
  readonly #handedOut = new Map<string, number>();
  /** Since when workers are in their state. */
  readonly #states = new Map<string, { state: WorkerState; sinceMs: number }>();

  constructor(home: string, seed: number) {
    this.random = new Random(seed);
    this.machine = new Machine(home, (event) => {
      try {
        this.#onEvent(event);
      } catch (error) {
        this.#wrong.push(error);
      }
    });
    this.machine.nextFault = () => this.random.chance(80) ? "none" : this.random.pick(FAULTS);
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** Something happens: mostly what happens on a working day. */
  async step(): Promise<void> {
    const { random, machine } = this;
    const dice = random.integer(1, 1000);
    if (dice <= 420) return this.#spawn();
    if (dice <= 800) return this.#request();
    if (dice <= 860) return this.#crash();
    if (dice <= 900) return void this.#shutdown();
    if (dice <= 950) return this.#othersMemory();
    if (dice <= 955) return machine.clock.jump(random.pick([-3_600_000, 3_600_000]));
    if (dice <= 990) return await this.#within(2_000, machine.hive!.list());
    return await this.#restart();
  }

  /** What must hold whenever everything has had its turn. */
  check(): void {
    const { machine } = this;
    assertEquals(this.#wrong, []);
    const hive = machine.hive!;
    const listed = hive.snapshot();
    const alive = machine.alive;
    const byPid = new Map(listed.map((worker) => [worker.pid, worker]));
    // No process without an owner, no owner without a process, and the registry is true.
    for (const { pid, fault, stage } of alive) assert(byPid.has(pid), `orphan ${pid} ${fault} ${stage}`);
    for (const { state, pid } of listed) {
      assert(state === "failed" || machine.processes.get(pid)?.alive, `${state} without a process`);
    }
    assertEquals(machine.registry.all().map(({ pid }) => pid).sort(), alive.map(({ pid }) => pid).sort());
    // One worker for one wish, and slots that make sense.
    const usable = listed.filter(({ state }) => ["starting", "loading", "idle", "busy"].includes(state));
    const wishes = usable.map(({ model_ref, slots_total }) => `${model_ref} ${slots_total}`);
    assertEquals(new Set(wishes).size, wishes.length, wishes.join());
    for (const { slots_available, slots_total } of listed) {
      assert(slots_available >= 0 && slots_available <= slots_total);
    }
    for (const worker of alive) this.#checkIdle(worker);
    for (const worker of listed) this.#checkPatience(worker);
    // Whoever waits for something has a timer, and nobody leaves one behind.
    assert(
      machine.clock.pending < 40 + 12 * (alive.length + this.#spawning),
      `${machine.clock.pending} timers`,
    );
  }

  /** No state that is to end stays for longer than its limit. */
  #checkPatience({ worker_id, state }: WorkerInfo): void {
    const nowMs = this.machine.clock.elapsedMs;
    const known = this.#states.get(worker_id);
    if (known?.state !== state) return void this.#states.set(worker_id, { state, sinceMs: nowMs });
    const most = LONGEST_MS[state] ?? Infinity;
    assert(nowMs - known.sinceMs <= most, `${state} for ${nowMs - known.sinceMs} ms`);
  }

  /** The hive leaves in the time that it has for that. */
  async leave(options: { keepWorkers: boolean }): Promise<void> {
    await this.#within(30_000, this.machine.stopHive(options));
  }

  /** Lets time pass until the work is done. */
  async #within(ms: number, work: Promise<unknown>): Promise<void> {
    let done = false;
    const over = work.finally(() => done = true);
    over.catch(() => {});
    for (let passedMs = 0; !done; passedMs += 1_000) {
      assert(passedMs <= ms, `not done within ${ms} ms`);
      await this.machine.clock.run(1_000);
    }
    await over;
  }

  /** No timer of the hive's is late. */
  #checkIdle(worker: SimulatedWorker): void {
    const row = this.machine.registry.all().find(({ id }) => id === worker.id);
    if (worker.fault !== "none" || row === undefined || row.idleTimeoutSeconds === 0) return;
    if (worker.stage !== "ready") return;
    // Who is handed a worker that is there has all of the time before it.
    const unusedMs = Math.min(
      worker.idleMs,
      this.machine.clock.elapsedMs - (this.#handedOut.get(worker.id) ?? 0),
    );
    assert(unusedMs < row.idleTimeoutSeconds * 1000 + IDLE_MARGIN_MS, `idle for ${unusedMs} ms`);
  }

  #spawn(): void {
    const { random, machine } = this;
    const request = SpawnRequest.parse({
      model_ref: `file:/models/${random.pick(MODELS)}.gguf`,
      slots: random.pick([1, 4]),
      ctx_size: 512,
      pin: random.chance(3) ? true : random.chance(20) ? false : undefined,
      idle_timeout: random.chance(70) ? undefined : random.pick([1, 30, 600, 3_000]),
    });
    this.#spawning++;
    machine.hive!.spawn(request).then(
      ({ reused, worker_id }) => {
        if (reused) this.#handedOut.set(worker_id, machine.clock.elapsedMs);
        this.count(reused ? "reused" : "started");
      },
      ({ code }) => this.count(code ?? "another error"),
    ).finally(() => this.#spawning--);
  }

  #request(): void {
    const worker = this.#any();
    if (worker === undefined || !worker.begin()) return this.count("no request");
    this.count("request");
    this.machine.clock.after(this.random.integer(10, 60_000), () => worker.end());
  }

  #crash(): void {
    const worker = this.#any();
    if (worker === undefined) return;
    this.count("crash caused");
    worker.die(this.random.chance(50) ? { code: null, signal: "SIGKILL" } : { code: 134, signal: null });
  }

  #shutdown(): void {
    const worker = this.#any();
    if (worker === undefined) return;
    this.machine.hive!.shutdown(worker.id).catch(({ code }) => this.count(code));
  }

  #othersMemory(): void {
    this.machine.othersMb = this.random.pick([0, 0, 500, 1_500, 3_000]);
  }

  async #restart(): Promise<void> {
    const { machine, random } = this;
    if (random.chance(50)) machine.killHive();
    else await this.leave({ keepWorkers: random.chance(50) });
    await machine.clock.run(random.integer(0, 20_000));
    const healthy = machine.alive.filter(({ stage, fault }) => stage === "ready" && fault === "none");
    await this.#within(10_000, machine.start());
    for (const { alive, id } of healthy) {
      assert(alive || this.#left.has(id), "a healthy worker is not adopted");
    }
    // Its limits begin anew with the hive.
    this.#states.clear();
  }

  #any(): SimulatedWorker | undefined {
    const { alive } = this.machine;
    return alive.length === 0 ? undefined : this.random.pick(alive);
  }

  #onEvent(event: WorkerEvent): void {
    const { machine } = this;
    const worker = machine.byId(event.worker.record.id)!;
    switch (event.kind) {
      case "listed":
        if (!event.adopted) this.#checkRoom();
        return this.count(event.adopted ? "adopted" : "launched");
      case "leaving":
        this.count(event.reason);
        this.#left.add(worker.id);
        // Asked by the hive before this one.
        if (event.reason === "itself") return;
        assertEquals(worker.running, 0, `${event.reason} while it was busy`);
        assert(event.reason === "idle" || !event.worker.record.pinned);
        if (event.reason === "idle") {
          assert(worker.idleMs >= event.worker.record.idleTimeoutSeconds * 1000 - 1_000);
        }
        return;
      case "exited":
        this.count(isCrash(event.cause) ? `crash: ${event.cause}` : `left: ${event.cause}`);
    }
  }

  /** With the newcomer, and once all that are to stay have taken what they need, the reserve is still there. */
  #checkRoom(): void {
    const { machine } = this;
    const ends = new Set(
      machine.hive!.snapshot().filter(({ state }) => state === "draining" || state === "failed")
        .map(({ pid }) => pid),
    );
    const takenMb = machine.alive.reduce((sum, worker) => {
      return sum + (ends.has(worker.pid) ? worker.holdsMb : worker.takesMb);
    }, 0);
    const runtimesMb = machine.alive.length * RUNTIME_MB;
    assert(takenMb - runtimesMb + machine.othersMb + RESERVE_MB <= TOTAL_MB, `${takenMb} MB are too much`);
  }
}

/** Seeds of the days; another one: RBEE_SIMULATION_SEED. */
function seedOfDay(): number {
  return Number(Deno.env.get("RBEE_SIMULATION_SEED") ?? 1);
}

Deno.test("24 hours and 10,000 events: no orphan, a true registry, no wrong eviction, nothing late, nothing left", async () => {
  await using home = await tempHome();
  const day = new Day(home.rbeeHome, seedOfDay());
  const { machine, random } = day;
  await machine.start();
  for (let event = 0; event < EVENTS; event++) {
    await day.step();
    // Exponential: often nothing for a while, often much at once.
    await machine.clock.run(-Math.log(1 - random.next()) * DAY_MS / EVENTS);
    day.check();
  }
  await day.leave({ keepWorkers: false });
  assertEquals([machine.alive.length, machine.registry.all().length], [0, 0]);
  machine.close();
  // A day on which this did not happen proves nothing about it.
  for (const what of ["evicted", "squeezed", "idle", "adopted", "reused", "request", "INSUFFICIENT_RAM"]) {
    assert(day.counts.has(what), `nothing ${what}`);
  }
  for (const cause of CRASH_CAUSES) assert(day.counts.has(`crash: ${cause}`), `no crash by ${cause}`);
});
