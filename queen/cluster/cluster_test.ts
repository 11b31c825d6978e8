/** What the queen makes of reports, of silence, and of its own clock. */
import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { HEARTBEAT_INTERVAL_MS } from "../../protocol/limits.ts";
import { BLOCK_TOKENS, encodeBlocks } from "../../protocol/prefix_blocks.ts";
import { Heartbeat, type HeartbeatInput } from "../../protocol/queen_schemas.ts";
import { CLOCK_GAP_MS, NODE_FORGOTTEN_MS, SUSPECT_MS, VOUCHED_AFTER_MS } from "../limits.ts";
import { sharedTokens } from "../placement/placement.ts";
import { modelViewOf, roomOf } from "../placement/view.ts";
import { Cluster } from "./cluster.ts";

type ReportedInput = HeartbeatInput["workers"][number];

function report(over: Partial<HeartbeatInput> = {}, workers: Partial<ReportedInput>[] = [{}]): Heartbeat {
  return Heartbeat.parse({
    ...{ node_name: "n", instance: "first", hive_url: "http://127.0.0.1:9", api_key: "k", version: "0" },
    memory: { total_mb: 1_000, free_mb: 500, reserve_mb: 0 },
    ...{ devices: [], models: [] },
    workers: workers.map((worker) => ({
      ...{
        worker_id: "w",
        url: "http://127.0.0.1:9",
        api_key: "k",
        model_ref: "m",
        backend: "cpu",
        device: 0,
      },
      ...{ state: "idle", slots_total: 4, slots_available: 4, pinned: false, memory_mb: 1 },
      last_activity_unix: 0,
      ...worker,
    })),
    ...over,
  });
}

/** Ticks as the queen does, until then. */
function tickUntil(cluster: Cluster, span: { fromMs: number; toMs: number }): void {
  for (let nowMs = span.fromMs; nowMs <= span.toMs; nowMs += 500) cluster.tick(nowMs);
}

Deno.test("silence makes a machine stale and then down; a gap of the queen's own clock is nobody's silence", () => {
  const cluster = new Cluster(0);
  cluster.report(report(), 0);
  const presenceAfter = (toMs: number, fromMs: number) => {
    tickUntil(cluster, { fromMs, toMs });
    return cluster.node("n")?.presence;
  };
  assertEquals(presenceAfter(3 * HEARTBEAT_INTERVAL_MS - 500, 500), "up");
  // Stopped for a minute and a half.
  const gapMs = 90_000;
  const wakesMs = 3 * HEARTBEAT_INTERVAL_MS - 500 + gapMs;
  assert(gapMs > CLOCK_GAP_MS);
  cluster.tick(wakesMs);
  assertEquals(cluster.node("n")?.presence, "up");
  assertEquals(presenceAfter(wakesMs + 1_000, wakesMs + 500), "stale");
  assertEquals(cluster.modelView("m").ready, 0);
  assertEquals(cluster.report(report(), wakesMs + 1_100).presences, [
    { node: "n", from: "stale", to: "up" },
  ]);
  assertEquals(cluster.modelView("m").ready, 1);
  assertEquals(presenceAfter(wakesMs + 60_000, wakesMs + 1_500), "down");
  assertEquals(presenceAfter(wakesMs + 60_000 + NODE_FORGOTTEN_MS, wakesMs + 60_500), undefined);
});

Deno.test("two hives of one name are told apart; a restart of the same is none", () => {
  const cluster = new Cluster(0);
  const other = { instance: "second", hive_url: "http://127.0.0.1:10" };
  cluster.report(report(), 0);
  assertEquals(cluster.rivalOf(report(other))?.instance, "first");
  assertEquals(cluster.rivalOf(report({ instance: "second" })), undefined);
  cluster.report(report({ instance: "second" }), 1);
  assertEquals(cluster.rivalOf(report())?.instance, "second");
  // The farewell of the earlier one takes nothing from the later.
  assertEquals(cluster.report(report({ leaving: true }), 2).gone, []);
  assertEquals([cluster.node("n")?.presence, cluster.modelView("m").ready], ["up", 1]);
  assertEquals(cluster.report(report({ instance: "second", leaving: true }), 3).gone.length, 1);
  assertEquals(cluster.rivalOf(report(other)), undefined);
});

Deno.test("a lost worker is asked again after a while, or once its hive vouches for it later", () => {
  const cluster = new Cluster(0);
  cluster.report(report(), 0);
  const worker = cluster.worker("w")!;
  cluster.suspect(worker, 1_000);
  assertEquals(cluster.modelView("m").ready, 0);
  cluster.report(report(), 1_000 + VOUCHED_AFTER_MS - 1);
  assertEquals(cluster.modelView("m").ready, 0);
  assertEquals([...cluster.report(report(), 1_000 + VOUCHED_AFTER_MS).freed], ["m"]);
  cluster.suspect(worker, 5_000);
  assertEquals([...cluster.tick(4_999 + SUSPECT_MS).freed], []);
  assertEquals([...cluster.tick(5_000 + SUSPECT_MS).freed], ["m"]);
});

Deno.test("a worker's last use is kept on the queen's clock, not on the wall clock", () => {
  const cluster = new Cluster(0);
  const wallMs = 1_700_000_000_000;
  cluster.report(report({}, [{ last_activity_unix: wallMs / 1000 - 60 }]), 100_000, wallMs);
  assertEquals(cluster.worker("w")!.lastUsedMs, 40_000);
  cluster.taken(cluster.worker("w")!, { slots: 1, suspect: false, nowMs: 90_000 });
  cluster.report(report({}, [{ last_activity_unix: wallMs / 1000 - 60 }]), 100_001, wallMs);
  assertEquals(cluster.worker("w")!.lastUsedMs, 90_000);
});

Deno.test("whatever happens, what is kept of a model's workers is what a look at each of them finds", () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant("report" as const),
      node: fc.nat(2),
      states: fc.array(fc.constantFrom("idle" as const, "loading" as const, "draining" as const), {
        maxLength: 3,
      }),
      context: fc.constantFrom(512, 4_096, undefined),
      taken: fc.nat(4),
      held: fc.option(fc.nat(9), { nil: undefined }),
    }),
    fc.record({ do: fc.constant("read" as const), pick: fc.nat(9), count: fc.nat(9) }),
    fc.record({
      do: fc.constantFrom("take" as const, "free" as const, "suspect" as const, "full" as const),
      pick: fc.nat(9),
    }),
    fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(500, 4_000, 16_000, 60_000) }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
    const cluster = new Cluster(0);
    const leases: (() => void)[] = [];
    // One long prompt, of which each worker holds a beginning.
    const prompt = Array.from({ length: 9 }, (_, i) => 2 ** 40 + i);
    const held = new Map<string, Set<number>>();
    let nowMs = 0;
    for (const one of steps) {
      const workers = [...cluster.workers()];
      if (one.do === "report") {
        const { node, states, context, taken } = one;
        const kept = one.held === undefined ? undefined : [...prompt.slice(0, one.held), node];
        for (let i = 0; i < 3; i++) {
          const id = `w${node}-${i}`;
          if (states[i] === undefined) held.delete(id);
          else if (kept !== undefined || !held.has(id)) held.set(id, new Set(kept));
        }
        const devices = [{ backend: "cpu" as const, index: 0, name: "c", description: "c" }]
          .map((device) => ({ ...device, memory_total_mb: 1_000, memory_free_mb: 500 }));
        cluster.report(
          report(
            { node_name: `n${node}`, instance: `i${node}`, devices },
            states.map((state, i) => ({
              ...{ worker_id: `w${node}-${i}`, state, context, slots_available: 4 - taken },
              blocks: kept && encodeBlocks(kept),
            })),
          ),
          nowMs,
        );
      } else if (one.do === "pass") {
        for (const endMs = nowMs + one.ms; nowMs < endMs; nowMs += 500) cluster.tick(nowMs);
        cluster.tick(nowMs);
      } else if (one.do === "free") {
        leases.splice(one.pick % Math.max(1, leases.length), 1).at(0)?.();
      } else if (workers.length > 0) {
        const worker = workers[one.pick % workers.length];
        if (one.do === "read") {
          const blocks = prompt.slice(0, one.count);
          cluster.read(worker, blocks);
          for (const block of blocks) held.get(worker.id)!.add(block);
        } else if (one.do === "take") {
          leases.push(cluster.taken(worker, { slots: 2, suspect: false, nowMs }).freed);
        } else if (one.do === "suspect") cluster.suspect(worker, nowMs);
        else cluster.full(worker);
      }
      for (const id of [...held.keys()]) if (cluster.worker(id) === undefined) held.delete(id);
      const kept = cluster.modelView("m");
      const seen = modelViewOf(cluster.workersOf("m"));
      const plain = ({ free, ready, loading, context, embeds }: typeof seen) => ({
        ...{ free: [...free].map(({ id }) => id).sort(), ready, loading, context, embeds },
      });
      assertEquals(plain(kept), plain(seen));
      const names = ["n1", "n2", "n9"];
      const there = [...cluster.workersOf("m")].filter(({ node }) => names.includes(node));
      assertEquals(new Set(cluster.workersOf("m", names)), new Set(there));
      for (const node of cluster.nodes()) assertEquals(node.roomMb, roomOf(node));
      for (const worker of cluster.workers()) {
        const naive = prompt.findIndex((block) => !held.get(worker.id)!.has(block));
        const shared = (naive < 0 ? prompt.length : naive) * BLOCK_TOKENS;
        assertEquals(sharedTokens(worker, { blocks: prompt }), shared);
        assertEquals(worker.blocks.size, held.get(worker.id)!.size);
      }
    }
  }));
});
