/** `docs/metrics.md` against what a real hive and a real worker show. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { readMetrics, type ToldMetric } from "../daemon/metrics_text.ts";
import { WorkerClient } from "../protocol/worker_client.ts";
import { CLUSTER_KEY, startCluster } from "./helpers/cluster.ts";
import { writeLlamaGguf } from "./helpers/gguf_writer.ts";
import { type ListedMetric, listedMetrics, listedOfHive } from "./helpers/listed_metrics.ts";
import { SLOW, SLOW_TOKENS } from "./helpers/slow_model.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { testHive } from "./helpers/test_hive.ts";
import { workerCommand } from "../hive/workers/command.ts";

/** What a daemon shows. */
async function shown(url: string, key: string): Promise<{ text: string; metrics: ToldMetric[] }> {
  const response = await fetch(`${url}/metrics`, { headers: { Authorization: `Bearer ${key}` } });
  const text = await response.text();
  return { text, metrics: readMetrics(text) };
}

function assertAsListed(
  { metrics }: { metrics: readonly ToldMetric[] },
  list: readonly ListedMetric[],
): void {
  const heads = (all: readonly { name: string; type: string }[]) =>
    all.map(({ name, type }) => `${name} ${type}`).sort();
  assertEquals(heads(metrics), heads(list));
  for (const { name, samples } of metrics) {
    const { labels } = list.find((metric) => metric.name === name)!;
    for (const sample of samples) {
      const { le: _, ...given } = sample.labels;
      assertEquals(Object.keys(given).sort(), Object.keys(labels).sort(), name);
      for (const [label, value] of Object.entries(given)) {
        assert(labels[label]?.includes(String(value)) ?? true, `${name} ${label} ${value}`);
      }
      assert(sample.value >= 0, name);
    }
  }
}

Deno.test("the list of metrics is what hive and worker show, and their labels have no other values", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome, command: workerCommand(new Map()) });
  const path = join(home.path, "chain.gguf");
  await writeLlamaGguf(path, SLOW);
  const { worker_id, url, api_key } = await hive.spawn({ model_ref: `file:${path}`, slots: 2 });
  await hive.until(worker_id, "idle");
  const client = new WorkerClient({ baseUrl: url, apiKey: api_key });
  await Array.fromAsync((await client.infer({ prompt: "a", max_tokens: 50 })).events);
  const { events } = await client.infer({ prompt: "a", request_id: "a", max_tokens: SLOW_TOKENS });
  await events.next();
  await client.cancel("a");
  await Array.fromAsync(events);

  const worker = await shown(url, api_key);
  assertAsListed(worker, await listedMetrics("llm-worker-rbee"));
  assertMatch(worker.text, /rbee_worker_first_token_seconds_count 2\n/);
  assertMatch(worker.text, /rbee_worker_cancel_to_idle_seconds_count 1\n/);
  assertMatch(worker.text, /rbee_worker_token_gap_seconds_count [1-9]/);
  assertMatch(worker.text, /rbee_worker_load_seconds (?!0\n)/);

  // Nothing that a caller may choose becomes a label.
  await hive.spawn({ model_ref: `hf:acme/${crypto.randomUUID()}` }).catch(() => {});
  await hive.client.workers();
  const before = await shown(hive.url, hive.key);
  assertMatch(before.text, /rbee_hive_slots\{state="free"\} 2\n/);
  // What a worker tells, its hive passes on.
  const port = `port="${new URL(url).port}"`;
  assertMatch(before.text, new RegExp(`rbee_worker_first_token_seconds_count\\{${port}\\} 2\\n`));
  assertMatch(before.text, new RegExp(`rbee_worker_requests_total\\{outcome="canceled",${port}\\} 1\\n`));
  assertMatch(before.text, /rbee_hive_load_seconds_count\{backend="cpu"\} 1\n/);
  assertMatch(before.text, /rbee_hive_worker_memory_actual_bytes\{backend="cpu"\} [1-9]/);
  await hive.client.shutdownWorker(worker_id);
  const after = await shown(hive.url, hive.key);
  assertMatch(after.text, /rbee_hive_worker_leaves_total\{reason="asked"\} 1\n/);
  assertAsListed(before, await listedOfHive());
  assertAsListed(after, await listedMetrics("rbee-hive"));
});

Deno.test("the list of the queen's metrics is what it shows", async () => {
  await using cluster = await startCluster({ nodes: ["mac"] });
  const { queen } = cluster;
  await Array.fromAsync(
    (await queen.client.run({ model: "builtin:stories", prompt: "Once", max_tokens: 3 })).events,
  );
  const what = await shown(queen.url, CLUSTER_KEY);
  assertAsListed(what, await listedMetrics("queen-rbee"));
  assertMatch(what.text, /rbee_queen_answers_total\{end="done"\} 1\n/);
  assertMatch(what.text, /rbee_queen_loads_total\{result="loaded"\} 1\n/);
  assertMatch(what.text, /rbee_queen_nodes\{presence="up"\} 1\n/);
  assertMatch(what.text, /rbee_queen_node_presence\{node="mac"\} 2\n/);
  assertMatch(what.text, /rbee_queen_node_changes_total\{change="new"\} 1\n/);
  const labels = 'priority="interactive",model="builtin:stories"';
  for (const name of ["wait", "first_token"]) {
    assertStringIncludes(what.text, `rbee_queen_${name}_seconds_count{${labels}} 1\n`);
  }
});
