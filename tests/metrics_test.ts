/** `docs/metrics.md` against what a real hive and a real worker show. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { isErrorCode } from "../protocol/errors.ts";
import { WorkerClient } from "../protocol/worker_client.ts";
import { BackendName } from "../protocol/spawn_request.ts";
import { CLUSTER_KEY, startCluster } from "./helpers/cluster.ts";
import { type LlamaShape, writeLlamaGguf } from "./helpers/gguf_writer.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { testHive } from "./helpers/test_hive.ts";
import { workerCommand } from "../hive/workers/command.ts";

/** Never ends an answer by itself, and takes seconds for a long one: time for a cancel. */
const CHAIN: LlamaShape = {
  ...{ layers: 4, embd: 512, heads: 8, ff: 1_024, type: "Q8_0", vocab: 6_000, ctx: 2_500, chain: true },
};

/** What the list says of one metric. */
interface Listed {
  name: string;
  type: string;
  label: string;
  /** Whether the label may have this value. */
  allows: (value: string) => boolean;
}

async function listed(part: string): Promise<Listed[]> {
  const text = await Deno.readTextFile(new URL("../docs/metrics.md", import.meta.url));
  const section = text.split(/^## /m).find((each) => each.startsWith(`${part}\n`))!;
  return section.split("\n").filter((line) => line.startsWith("| `")).map((line) => {
    const [name, type, label, values] = line.split("|").slice(1).map((cell) =>
      cell.replaceAll("`", "").trim()
    );
    const known = values.split(", ").flatMap((value) =>
      value === "_backend_" ? BackendName.options : [value]
    );
    const allows = (value: string) =>
      known.includes(value) || known.includes("_code_") && isErrorCode(value) ||
      known.includes("_key_") && (value === "owner" || value === "(others)");
    return { name, type, label, allows };
  });
}

/** Metrics and series of a daemon. */
async function shown(url: string, key: string) {
  const response = await fetch(`${url}/metrics`, { headers: { Authorization: `Bearer ${key}` } });
  const text = await response.text();
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`);
  const series = [...text.matchAll(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/gm)].map((
    [, name, labels = "", value],
  ) => ({
    name: name.replace(/_(bucket|sum|count)$/, ""),
    labels: [...labels.matchAll(/([a-z]+)="([^"]*)"/g)].map(([, label, value]) => [label, value] as const)
      .filter(([label]) => label !== "le"),
    value: Number(value),
  }));
  return { text, types, series };
}

function assertAsListed(what: Awaited<ReturnType<typeof shown>>, list: readonly Listed[]): void {
  assertEquals(what.types.toSorted(), list.map(({ name, type }) => `${name} ${type}`).toSorted());
  for (const { name, labels, value } of what.series) {
    const { label, allows } = list.find((metric) => metric.name === name)!;
    assertEquals(labels.map(([given]) => given), label === "" ? [] : [label], name);
    assert(labels.every(([, given]) => allows(given)), `${name} ${labels}`);
    assert(value >= 0, name);
  }
}

Deno.test("the list of metrics is what hive and worker show, and their labels have no other values", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome, command: workerCommand(new Map()) });
  const path = join(home.path, "chain.gguf");
  await writeLlamaGguf(path, CHAIN);
  const { worker_id, url, api_key } = await hive.spawn({ model_ref: `file:${path}`, slots: 2 });
  await hive.until(worker_id, "idle");
  const client = new WorkerClient({ baseUrl: url, apiKey: api_key });
  await Array.fromAsync((await client.infer({ prompt: "a", max_tokens: 50 })).events);
  const { events } = await client.infer({ prompt: "a", request_id: "a", max_tokens: 2_000 });
  await events.next();
  await client.cancel("a");
  await Array.fromAsync(events);

  const worker = await shown(url, api_key);
  assertAsListed(worker, await listed("llm-worker-rbee"));
  assertMatch(worker.text, /rbee_worker_first_token_seconds_count 2\n/);
  assertMatch(worker.text, /rbee_worker_cancel_to_idle_seconds_count 1\n/);
  assertMatch(worker.text, /rbee_worker_token_gap_seconds_count [1-9]/);
  assertMatch(worker.text, /rbee_worker_load_seconds 0\.\d*[1-9]/);

  // Nothing that a caller may choose becomes a label.
  await hive.spawn({ model_ref: `hf:acme/${crypto.randomUUID()}` }).catch(() => {});
  await hive.client.workers();
  const before = await shown(hive.url, hive.key);
  assertMatch(before.text, /rbee_hive_slots\{state="free"\} 2\n/);
  assertMatch(before.text, /rbee_hive_load_seconds_count\{backend="cpu"\} 1\n/);
  assertMatch(before.text, /rbee_hive_worker_memory_actual_bytes\{backend="cpu"\} [1-9]/);
  await hive.client.shutdownWorker(worker_id);
  const after = await shown(hive.url, hive.key);
  assertMatch(after.text, /rbee_hive_worker_leaves_total\{reason="asked"\} 1\n/);
  for (const each of [before, after]) assertAsListed(each, await listed("rbee-hive"));
});

Deno.test("the list of the queen's metrics is what she shows", async () => {
  await using cluster = await startCluster({ nodes: ["mac"] });
  const { queen } = cluster;
  await Array.fromAsync(
    (await queen.client.run({ model: "builtin:stories", prompt: "Once", max_tokens: 3 })).events,
  );
  const what = await shown(queen.url, CLUSTER_KEY);
  assertAsListed(what, await listed("queen-rbee"));
  assertMatch(what.text, /rbee_queen_answers_total\{end="done"\} 1\n/);
  assertMatch(what.text, /rbee_queen_loads_total\{result="loaded"\} 1\n/);
  assertMatch(what.text, /rbee_queen_nodes\{presence="up"\} 1\n/);
});
