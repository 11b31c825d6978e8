import { assert, assertEquals } from "@std/assert";
import type { Sample } from "../daemon/metrics.ts";
import { readMetrics } from "../daemon/metrics_text.ts";
import { HEARTBEAT_INTERVAL_MS } from "../protocol/limits.ts";
import { Heartbeat } from "../protocol/queen_schemas.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { FakeFleet, FLEET_MODEL, fleetQueen } from "../tests/helpers/fake_fleet.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { Cluster } from "./cluster/cluster.ts";
import {
  DOWN_AFTER_HEARTBEATS,
  METRIC_MODELS_MAX,
  METRIC_NODES_MAX,
  STALE_AFTER_HEARTBEATS,
} from "./limits.ts";
import { QueenMetrics } from "./metrics.ts";
import { OTHERS } from "./usage.ts";

const REPORT = {
  ...{ instance: "i", hive_url: "http://127.0.0.1:9", api_key: "k", version: "1" },
  ...{ memory: { total_mb: 1, free_mb: 1, reserve_mb: 0 }, workers: [], devices: [], models: [] },
};

async function samplesOf(response: Response | Promise<Response>): Promise<Sample[]> {
  return readMetrics(await (await response).text()).flatMap(({ samples }) => samples);
}

function told(metrics: QueenMetrics, cluster: Cluster, wanted: readonly string[] = []): Promise<Sample[]> {
  const nothing = { poisoned: new Map(), usage: new Map(), waiting: 0, running: 0 };
  return samplesOf(metrics.response({ cluster, wanted, ...nothing }));
}

/** The numbers of one metric by the value of a label. */
function by(label: string, of: { samples: readonly Sample[]; name: string }): Record<string, number> {
  return Object.fromEntries(
    of.samples.filter(({ metricName }) => metricName === of.name).map((
      { labels, value },
    ) => [labels[label], value]),
  );
}

Deno.test("each machine is shown as it is, one that is to run and never came as down, and each change is counted", async () => {
  const metrics = new QueenMetrics();
  const cluster = new Cluster(0);
  const report = (node_name: string, nowMs: number, leaving = false) =>
    metrics.presences(cluster.report(Heartbeat.parse({ ...REPORT, node_name, leaving }), nowMs).presences);
  const presence = async () =>
    by("node", { samples: await told(metrics, cluster, ["nas", "mac"]), name: "rbee_queen_node_presence" });
  for (const name of ["mac", "gpu", "tv"]) report(name, 0);
  let nowMs = 0;
  // Looked at as often as in earnest: a longer pause would be one of the queen's own.
  const tickUntil = (missed: number) => {
    for (; nowMs <= missed * HEARTBEAT_INTERVAL_MS; nowMs += 500) {
      metrics.presences(cluster.tick(nowMs).presences);
    }
  };
  assertEquals(await presence(), { nas: 0, mac: 2, gpu: 2, tv: 2 });
  tickUntil(STALE_AFTER_HEARTBEATS);
  report("gpu", nowMs);
  report("tv", nowMs);
  assertEquals(await presence(), { nas: 0, mac: 1, gpu: 2, tv: 2 });
  report("tv", nowMs, true);
  tickUntil(DOWN_AFTER_HEARTBEATS);
  assertEquals(await presence(), { nas: 0, mac: 0, gpu: 1, tv: 0 });
  assertEquals(
    by("change", { samples: await told(metrics, cluster), name: "rbee_queen_node_changes_total" }),
    { new: 3, silent: 4, down: 1, back: 2, left: 1 },
  );
});

Deno.test("however many models and machines there are, so many are told apart and no more", async () => {
  const metrics = new QueenMetrics();
  const cluster = new Cluster(0);
  for (let i = 0; i < METRIC_NODES_MAX + 5; i++) {
    cluster.report(Heartbeat.parse({ ...REPORT, node_name: `node-${i}` }), 0);
  }
  for (let i = 0; i < METRIC_MODELS_MAX + 5; i++) metrics.waited({ model: `m${i}`, priority: "batch" }, 500);
  metrics.firstToken({ model: "late", priority: "interactive" }, 1_500);
  metrics.firstToken({ model: "m0", priority: "interactive" }, 2_500);
  const samples = await told(metrics, cluster);
  const names = Object.keys(by("node", { samples, name: "rbee_queen_node_presence" }));
  assertEquals([names.length, names.at(-1)], [METRIC_NODES_MAX, `node-${METRIC_NODES_MAX - 1}`]);
  const waits = by("model", { samples, name: "rbee_queen_wait_seconds_count" });
  assertEquals([Object.keys(waits).length, waits.m0, waits[OTHERS]], [METRIC_MODELS_MAX + 1, 1, 5]);
  assertEquals(by("model", { samples, name: "rbee_queen_first_token_seconds_sum" }), {
    [OTHERS]: 1.5,
    m0: 2.5,
  });
});

Deno.test("who waits is counted with the first slot and the first token, and not again when the worker leaves", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home);
  await using fleet = new FakeFleet(queen, { slots: 1 });
  await fleet.start(1);
  const times = async (what: string) => {
    const samples = await samplesOf(queen.call("/metrics"));
    return by("priority", { samples, name: `rbee_queen_${what}` });
  };
  const model = FLEET_MODEL;
  const stream = await queen.call("/v1/completions", { model, prompt: "gated", stream: true });
  await eventually(
    "its first token, in the one slot",
    async () => (await times("first_token_seconds_count")).interactive === 1,
  );
  const task = await queen.call("/v2/tasks", { model, prompt: "a", priority: "batch", stream: true });
  await eventually("the task to wait", () => queen.queen.parts.scheduler.waiting === 1);
  assertEquals(await times("wait_seconds_count"), { interactive: 1 });
  fleet.openGate();
  await Promise.all([stream.text(), task.text()]);
  assertEquals(await times("wait_seconds_count"), { interactive: 1, batch: 1 });
  assertEquals(await times("first_token_seconds_count"), { interactive: 1, batch: 1 });
  const [waited, first] = [await times("wait_seconds_sum"), await times("first_token_seconds_sum")];
  assert(waited.batch > 0 && first.batch >= waited.batch, JSON.stringify({ waited, first }));
  await (await queen.call("/v1/completions", { model, prompt: "leaves-2", stream: true })).text();
  assertEquals(fleet.seen.length, 5);
  assertEquals(await times("wait_seconds_count"), { interactive: 2, batch: 1 });
  assertEquals(await times("first_token_seconds_count"), { interactive: 2, batch: 1 });
});

Deno.test("reports that are refused are counted by their reason, each of them, and machines that leave", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home);
  const report = async (what: unknown, headers?: Record<string, string>) => {
    const response = await queen.call("/v2/hives/heartbeat", what, headers);
    await response.body?.cancel();
  };
  for (let i = 0; i < 3; i++) {
    await report({ ...REPORT, node_name: "mac" }, { Authorization: "Bearer nobody's" });
  }
  await report({ node_name: "mac" });
  await report({ ...REPORT, node_name: "mac" });
  await report({ ...REPORT, node_name: "mac", leaving: true });
  const samples = await samplesOf(queen.call("/metrics"));
  assertEquals(by("code", { samples, name: "rbee_queen_reports_refused_total" }), {
    ...{ INVALID_API_KEY: 3, MISSING_API_KEY: 0, NODE_NAME_TAKEN: 0, INVALID_REQUEST: 1 },
  });
  assertEquals(by("change", { samples, name: "rbee_queen_node_changes_total" }), {
    ...{ new: 1, silent: 0, down: 0, back: 0, left: 1 },
  });
});
