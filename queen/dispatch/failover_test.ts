/** Requests that kill workers, among others that do not: in a cluster that exists in memory alone. */
import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { createLogger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { Cluster } from "../cluster/cluster.ts";
import { POISONED_STRIKES } from "../limits.ts";
import { type Attempt, Failover, Lost } from "./failover.ts";
import { LiveRequests } from "./live_requests.ts";
import { Offenders } from "./offenders.ts";
import { Scheduler } from "./scheduler.ts";

const MODEL = "m";
const LENGTH = 6;

/** A request of the world below. */
interface Subject {
  readonly id: string;
  /** Tokens after which it kills the worker; absent: it never does. */
  readonly killsAt?: number;
  told: number;
  /** Workers that it killed. */
  killed: number;
  /** It was on a worker that was lost, and has told nothing since. */
  suspect: boolean;
  end?: "done" | RbeeError;
}

/** A step that somebody may make. */
interface Step {
  readonly subject: Subject;
  readonly worker: string;
  go(): void;
  lose(): void;
}

/** Workers that live until a request kills them, each followed by another. */
class World {
  readonly #cluster = new Cluster(0);
  readonly #failover: Failover;
  readonly #scheduler: Scheduler;
  readonly #slots: number;
  #workers: string[] = [];
  #steps: Step[] = [];
  #started = 0;
  /** Suspects that were on one worker at the same time, at most. */
  suspectsTogether = 0;

  constructor(shape: { workers: number; slots: number }) {
    const log = createLogger({ part: "test", level: "error", format: "json", write: () => {} });
    const now = () => 0;
    this.#slots = shape.slots;
    this.#scheduler = new Scheduler({
      ...{ cluster: this.#cluster, log, now, queueLimit: 1_000, replicateAfterMs: 0 },
      startLoad: () => Promise.reject(new Error("Nothing is loaded here.")),
    });
    this.#failover = new Failover({
      ...{
        cluster: this.#cluster,
        scheduler: this.#scheduler,
        offenders: new Offenders(() => false),
        requests: new LiveRequests(),
        log,
        now,
      },
    });
    for (let i = 0; i < shape.workers; i++) this.#workers.push(`w${this.#started++}`);
    this.#report();
  }

  /** Sends a request in. */
  send(subject: Subject): void {
    this.#failover.run(
      {
        wanted: {
          ...{ id: subject.id, key: "owner", share: 1, model: MODEL, tokens: 1, priority: "interactive" },
          ...{ sinceMs: 0, deadlineMs: 1e6 },
        },
        route: "/v2/tasks",
        correlationId: subject.id,
        told: () => subject.told,
      },
      { attempt: (at) => this.#live(subject, at), signal: new AbortController().signal },
    ).then(() => subject.end = "done", (error) => subject.end = error);
  }

  /** Makes one of the steps that can be made; false: there is none. */
  async step(pick: number): Promise<boolean> {
    // Whatever follows from the last step has happened after so many turns.
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    const step = this.#steps.splice(pick % Math.max(1, this.#steps.length), 1).at(0);
    step?.go();
    return step !== undefined;
  }

  async #live(subject: Subject, at: Attempt): Promise<void> {
    for (;;) {
      await new Promise<void>((resolve, reject) => {
        const lose = () => reject(new Lost("lost", "killed"));
        if (!this.#workers.includes(at.worker.id)) return lose();
        this.#steps.push({ subject, worker: at.worker.id, go: resolve, lose });
        this.#look(at.worker.id);
      }).catch((error) => {
        subject.suspect = true;
        throw error;
      });
      if (subject.killsAt !== undefined && subject.told >= subject.killsAt) this.#kill(subject, at.worker.id);
      subject.told++;
      subject.suspect = false;
      at.told();
      if (subject.told === LENGTH) return;
    }
  }

  #kill(subject: Subject, worker: string): never {
    subject.killed++;
    subject.suspect = true;
    this.#workers = this.#workers.map((id) => id === worker ? `w${this.#started++}` : id);
    const company = this.#steps.filter((step) => step.worker === worker);
    this.#steps = this.#steps.filter((step) => step.worker !== worker);
    for (const { lose } of company) lose();
    this.#report();
    throw new Lost("lost", "it killed the worker");
  }

  #look(worker: string): void {
    const suspects = this.#steps.filter((step) => step.worker === worker && step.subject.suspect).length;
    this.suspectsTogether = Math.max(this.suspectsTogether, suspects);
  }

  #report(): void {
    const news = this.#cluster.report({
      ...{ node_name: "n", instance: "i", hive_url: "http://127.0.0.1:9", api_key: "k", version: "0" },
      ...{ memory: { total_mb: 0, free_mb: 0, reserve_mb: 0 }, devices: [], models: [], leaving: false },
      workers: this.#workers.map((worker_id) => ({
        ...{
          worker_id,
          url: "http://127.0.0.1:9",
          api_key: "k",
          model_ref: MODEL,
          backend: "cpu",
          device: 0,
        },
        ...{ state: "idle", slots_total: this.#slots, slots_available: this.#slots, pinned: false },
        ...{ memory_mb: 1, last_activity_unix: 0 },
      })),
    }, 0);
    this.#scheduler.changed(news);
  }
}

/** Lets requests come and steps be made in an order that is drawn, until all requests have ended. */
async function play(
  drawn: { workers: number; slots: number; kills: readonly (number | undefined)[]; picks: readonly number[] },
) {
  const world = new World(drawn);
  const subjects = drawn.kills.map((killsAt, i): Subject => ({
    ...{ id: `r${i}`, killsAt, told: 0, killed: 0, suspect: false },
  }));
  const waiting = [...subjects];
  for (let turn = 0; subjects.some(({ end }) => end === undefined); turn++) {
    const pick = drawn.picks[turn % drawn.picks.length] + turn;
    // Every third pick lets the next request in.
    if (waiting.length > 0 && pick % 3 === 0) world.send(waiting.shift()!);
    else if (!await world.step(pick) && waiting.length > 0) world.send(waiting.shift()!);
    assert(turn < 5_000, "The requests do not come to their ends.");
  }
  return { world, subjects };
}

const shape = {
  workers: fc.integer({ min: 1, max: 4 }),
  slots: fc.integer({ min: 1, max: 4 }),
  picks: fc.array(fc.nat(100), { minLength: 5, maxLength: 40 }),
};
const killsAt = fc.integer({ min: 0, max: LENGTH - 1 });

function isPoisoned({ end }: Subject): boolean {
  return end instanceof RbeeError && end.code === "REQUEST_POISONED";
}

Deno.test("one poisoned request costs two workers and ends nobody else, wherever it runs and whenever it kills", async () => {
  const world = fc.record({ ...shape, poison: killsAt, before: fc.nat(6), after: fc.nat(6) });
  await fc.assert(
    fc.asyncProperty(world, async ({ poison, before, after, ...drawn }) => {
      const kills = [...Array(before).fill(undefined), poison, ...Array(after).fill(undefined)];
      const { subjects } = await play({ ...drawn, kills });
      for (const [i, subject] of subjects.entries()) {
        if (i === before) assertEquals([subject.killed, isPoisoned(subject)], [POISONED_STRIKES, true]);
        else assertEquals([subject.end, subject.told], ["done", LENGTH]);
      }
    }),
    { numRuns: 150 },
  );
});

Deno.test("of many poisoned requests none costs more than two workers, and no two suspects share one", async () => {
  const world = fc.record({
    ...shape,
    kills: fc.array(fc.option(killsAt, { nil: undefined }), { minLength: 2, maxLength: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(world, async (drawn) => {
      const { world, subjects } = await play(drawn);
      for (const subject of subjects) {
        if (subject.killsAt === undefined) assert(subject.end === "done" || isPoisoned(subject));
        else assert(isPoisoned(subject) && subject.killed <= POISONED_STRIKES, JSON.stringify(subject));
      }
      assert(world.suspectsTogether <= 1);
    }),
    { numRuns: 150 },
  );
});
