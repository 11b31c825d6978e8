/** Who is given which slot, with a cluster that exists in memory alone. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as fc from "fast-check";
import { createLogger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { Heartbeat } from "../../protocol/queen_schemas.ts";
import { Cluster } from "../cluster/cluster.ts";
import { LOOK_INTERVAL_MS } from "../limits.ts";
import { growthSavesMs } from "../queue/eta.ts";
import type { Lease, Wanted } from "./lease.ts";
import { Scheduler } from "./scheduler.ts";

const MB = 1_000_000;

/** A scheduler, the clock that it sees, and what it decided to load. */
function bed(how: { queueLimit?: number; replicateAfterMs?: number } = {}) {
  const clock = { nowMs: 0 };
  const cluster = new Cluster(0);
  const loads: string[] = [];
  const scheduler = new Scheduler({
    ...{ cluster, queueLimit: how.queueLimit ?? 100, replicateAfterMs: how.replicateAfterMs ?? 0 },
    log: createLogger({ part: "test", level: "error", format: "json", write: () => {} }),
    now: () => clock.nowMs,
    startLoad: (load) => {
      loads.push(`${load.model} on ${load.node}`);
      const over = cluster.loading(cluster.node(load.node)!, load.model);
      return new Promise<void>(() => {}).finally(over);
    },
  });
  /** Reports a machine with such workers of the model `m`. */
  const report = (node: string, workers: { slots: number; taken?: number; mb?: number }[], freeMb = 100) => {
    scheduler.changed(cluster.report(
      Heartbeat.parse({
        ...{ node_name: node, instance: node, hive_url: `http://${node}:9`, api_key: "k", version: "0" },
        memory: { total_mb: 1_000, free_mb: freeMb, reserve_mb: 0 },
        devices: [{
          ...{ backend: "cpu", index: 0, name: "c", description: "c" },
          ...{ memory_total_mb: 1_000, memory_free_mb: freeMb },
        }],
        models: [{ model_ref: "m", size_bytes: 300 * MB }, { model_ref: "other", size_bytes: 300 * MB }],
        workers: workers.map(({ slots, taken = 0, mb = 1 }, i) => ({
          ...{ worker_id: `${node}-${i}`, url: "http://127.0.0.1:9", api_key: "k", model_ref: "m" },
          ...{ backend: "cpu", device: 0, state: "idle", slots_total: slots, slots_available: slots - taken },
          ...{ pinned: false, memory_mb: mb, last_activity_unix: 0 },
        })),
      }),
      clock.nowMs,
    ));
  };
  const served: string[] = [];
  const leases = new Map<string, Lease>();
  const ask = (id: string, over: Partial<Wanted> = {}) => {
    const stop = new AbortController();
    const lease = scheduler.acquire({
      ...{ id, key: "k", share: 1, model: "m", priority: "interactive", tokens: 10, sinceMs: clock.nowMs },
      ...{ deadlineMs: 1e9, begun: false },
      ...over,
    }, { signal: stop.signal });
    lease.then((given) => {
      served.push(id);
      leases.set(id, given);
    }, () => {});
    return { lease, stop };
  };
  return { clock, cluster, scheduler, loads, served, leases, report, ask };
}

async function turn(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

Deno.test("a place that was promised counts, and who has one is let in whatever waits", async () => {
  const { scheduler, ask } = bed({ queueLimit: 2 });
  const place = { key: "k", share: 1, model: "m" };
  const release = scheduler.reserve(place);
  scheduler.reserve(place);
  const full = assertThrows(() => scheduler.reserve(place), RbeeError);
  assertEquals([full.code, full.retryAfterSeconds !== undefined], ["QUEUE_FULL", true]);
  release();
  release();
  ask("a", { accepted: true, patient: "gone" });
  ask("b", { accepted: true, patient: "gone" });
  ask("c", { accepted: true, patient: "gone" });
  await turn();
  assertEquals(scheduler.waiting, 3);
  scheduler.close();
});

Deno.test("who needs four slots is served before singles that come later take each as it becomes free", async () => {
  const { ask, leases, served, report } = bed();
  report("n", [{ slots: 4 }]);
  for (const id of ["a", "b", "c", "d"]) ask(id);
  await turn();
  ask("four", { slots: 4 });
  ask("later");
  for (const id of ["a", "b", "c"]) {
    leases.get(id)!.done(10);
    ask(`after ${id}`);
    await turn();
    assertEquals(served.length, 4, `after ${id}`);
  }
  leases.get("d")!.done(10);
  await turn();
  assertEquals(served.slice(4), ["four"]);
  leases.get("four")!.done(40);
  await turn();
  assertEquals(served.length, 9);
});

Deno.test("who may only go where there is no room keeps nobody from having the model loaded elsewhere", async () => {
  const { report, ask, loads, scheduler } = bed();
  report("full", [], 10);
  report("other", [], 500);
  ask("first", { nodes: new Set(["full"]) });
  await turn();
  assertEquals([loads, scheduler.waiting], [[], 1]);
  ask("second");
  await turn();
  assertEquals([loads, scheduler.waiting], [["m on other"], 2]);
});

Deno.test("slots are gathered on one worker only, and by nobody any more once who needed them has left", async () => {
  const { ask, leases, served, report } = bed();
  report("n", [{ slots: 2 }, { slots: 2 }]);
  for (const id of ["a", "b", "c", "d"]) ask(id);
  await turn();
  const two = ask("two", { slots: 2 });
  two.lease.catch(() => {});
  for (const id of ["e", "f"]) ask(id);
  const workerOf = (id: string) => leases.get(id)!.worker.id;
  leases.get("a")!.done(1);
  await turn();
  const other = ["b", "c", "d"].find((id) => workerOf(id) !== workerOf("a"))!;
  leases.get(other)!.done(1);
  await turn();
  assertEquals(served.slice(4), ["e"]);
  assertEquals(workerOf("e") === workerOf("a"), false);
  two.stop.abort(new Error("left"));
  await turn();
  leases.get("e")!.done(1);
  await turn();
  assert(served.includes("f"));
});

Deno.test("a second worker is loaded when that saves those who wait more than it costs, or one has waited for long", () => {
  const many = bed({ replicateAfterMs: 10_000 });
  const few = bed({ replicateAfterMs: 10_000 });
  for (const [{ report, ask, cluster }, count] of [[many, 60], [few, 3]] as const) {
    cluster.paces.loaded("m", 20_000);
    report("full", [{ slots: 1, taken: 1 }]);
    report("idle", [], 900);
    for (let i = 0; i < count; i++) ask(`r${i}`).lease.catch(() => {});
  }
  assertEquals([many.loads, few.loads], [["m on idle"], []]);
  // Judged by who waits for longest, not by who is next: a fresh request of another key is.
  few.clock.nowMs = 9_999;
  few.ask("fresh", { key: "other" }).lease.catch(() => {});
  few.scheduler.tick();
  assertEquals(few.loads, []);
  few.clock.nowMs = 10_000 + LOOK_INTERVAL_MS;
  few.report("idle", [], 900);
  few.report("full", [{ slots: 1, taken: 1 }]);
  few.scheduler.tick();
  assertEquals(few.loads, ["m on idle"]);
  for (const { scheduler } of [many, few]) scheduler.close();
});

Deno.test("what growth saves is what those who wait would otherwise wait longer", () => {
  const drawn = {
    waiting: fc.integer({ min: 0, max: 200 }),
    slots: fc.integer({ min: 1, max: 16 }),
    more: fc.integer({ min: 1, max: 16 }),
    answerMs: fc.integer({ min: 1, max: 60_000 }),
    loadMs: fc.integer({ min: 0, max: 120_000 }),
  };
  fc.assert(fc.property(fc.record(drawn), ({ waiting, ...pace }) => {
    const { slots, more, answerMs, loadMs } = pace;
    let saved = 0;
    for (let i = 1; i <= waiting; i++) {
      const laterMs = i * answerMs / slots - loadMs;
      if (laterMs > 0) saved += laterMs * more / (slots + more);
    }
    assert(Math.abs(growthSavesMs(waiting, pace) - saved) <= 1e-6 * Math.max(1, saved));
  }));
});

Deno.test("who waits for room is served by the first machine that has it, without a look at all others", async () => {
  const { report, ask, loads, scheduler, clock, cluster } = bed();
  for (let i = 0; i < 50; i++) report(`small-${i}`, []);
  ask("a").lease.catch(() => {});
  await turn();
  let looks = 0;
  const nodes = cluster.nodes.bind(cluster);
  cluster.nodes = () => (looks++, nodes());
  for (let i = 0; i < 50; i++) report(`small-${i}`, []);
  clock.nowMs += 500;
  scheduler.tick();
  assertEquals([looks, loads], [0, []]);
  report("large", [], 900);
  await turn();
  assertEquals(loads, ["m on large"]);
  scheduler.close();
});

Deno.test("who waits for workers to leave is served by the report that says they have nothing to do, and by none before", async () => {
  const { report, ask, loads, scheduler } = bed();
  report("n", [{ slots: 4, taken: 4, mb: 500 }]);
  ask("a", { model: "other" }).lease.catch(() => {});
  await turn();
  for (const taken of [4, 3, 1]) report("n", [{ slots: 4, taken, mb: 500 }]);
  await turn();
  assertEquals(loads, []);
  report("n", [{ slots: 4, taken: 0, mb: 500 }]);
  await turn();
  assertEquals(loads, ["other on n"]);
  scheduler.close();
});
