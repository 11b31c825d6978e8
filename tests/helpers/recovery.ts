/** What must hold of a hive after any fault. */
import { assertEquals } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { join } from "@std/path";
import { processIdentity } from "../../home/process_identity.ts";
import type { HiveClient } from "../../protocol/hive_client.ts";
import type { SpawnInput } from "../../protocol/spawn_request.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "./eventually.ts";

/** A worker as the machine sees it: its process, and the address it listened at. */
export interface TracedWorker {
  pid: number;
  url?: string;
}

/** Every worker that a hive's log and those of its workers tell of. */
export async function tracedWorkers(client: HiveClient): Promise<TracedWorker[]> {
  const lines = await client.logs();
  const started = lines.filter(({ message }) => message === "worker started" || message === "worker adopted");
  return started.map(({ worker_id, fields }) => {
    const listening = lines.find((line) => line.message === "listening" && line.worker_id === worker_id);
    return { pid: Number(fields.pid), url: listening && String(listening.fields.url) };
  });
}

/** Waits until these processes are over and their ports free. */
export async function assertGone(workers: readonly TracedWorker[]): Promise<void> {
  for (const { pid, url } of workers) {
    await eventually(`the end of ${pid}`, async () => await processIdentity(pid) === undefined);
    if (url !== undefined) await eventually(`a free port at ${url}`, () => isPortFree(url));
  }
}

/** Whether nobody listens there. */
export async function isPortFree(url: string): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port: Number(new URL(url).port) })).close();
    return false;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return true;
    throw error;
  }
}

/** Waits until the rows are those of the workers on the list that are alive. */
export async function assertRegistryTrue(home: string, client: HiveClient): Promise<void> {
  await eventually("a registry that is true", async () => {
    const { workers } = await client.workers();
    const alive = workers.filter(({ state }) => state !== "failed").map(({ worker_id }) => worker_id);
    // Two files that are copied one after the other need not fit together.
    const rows = await registryIds(home).catch(() => undefined);
    return JSON.stringify(alive.sort()) === JSON.stringify(rows);
  });
}

/** From a copy: SQLite itself does not reach a home that is seen through another mount namespace. */
async function registryIds(home: string): Promise<string[]> {
  const copy = await Deno.makeTempDir();
  try {
    for (const name of ["hive.db", "hive.db-wal"]) await Deno.copyFile(join(home, name), join(copy, name));
    using database = new DatabaseSync(join(copy, "hive.db"));
    return database.prepare("SELECT id FROM workers ORDER BY id").all().map(({ id }) => String(id));
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
}

/** A spawn and a request to its worker, as if nothing had ever been wrong. Returns the worker's id. */
export async function assertNextRequestWorks(
  client: HiveClient,
  wish: Partial<SpawnInput> = {},
): Promise<string> {
  const spawned = await client.spawn({ model_ref: "builtin:stories", ...wish }, { timeoutMs: 30_000 });
  const worker = new WorkerClient({ baseUrl: spawned.url, apiKey: spawned.api_key });
  await eventually("a loaded model", async () => (await worker.ready()).ready);
  const events = await Array.fromAsync((await worker.infer({ prompt: "Once", max_tokens: 5 })).events);
  const last = events.at(-1)!;
  assertEquals("done" in last && last.total_tokens, events.length - 1);
  return spawned.worker_id;
}
