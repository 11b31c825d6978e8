/** Whether the engine's thread still makes steps, as health and the metrics tell it. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { eventually } from "../tests/helpers/eventually.ts";
import { startWorker } from "../tests/helpers/worker_process.ts";

Deno.test("a worker that waits has no step under way, and tells of its last", async () => {
  await using worker = await startWorker();
  const before = await worker.client.health();
  assertEquals(before.status, "alive");
  assertEquals([before.engine?.step_ms, before.engine?.last_step_ms], [null, null]);
  assertEquals(before.engine?.limit_ms, 5000);
  await worker.client.selfTest({ ifIdleMs: 0 });
  const after = await eventually("no step under way", async () => {
    const health = await worker.client.health();
    return health.engine?.step_ms === null && health;
  });
  assert((after.engine?.last_step_ms ?? -1) >= 0);
  const open = await fetch(`${worker.url}/health`);
  assertEquals((await open.json()).engine, undefined);
});

Deno.test("a step that never ends makes the worker degraded, and it is alive again when it goes on", async () => {
  const folder = await Deno.makeTempDir();
  const file = join(folder, "stall");
  try {
    await using worker = await startWorker({ env: { RBEE_TEST_STALL_FILE: file } });
    await Deno.writeTextFile(file, "");
    const stalled = fetch(`${worker.url}/v1/inference`, {
      method: "POST",
      headers: { Authorization: `Bearer ${worker.key}` },
      body: JSON.stringify({ prompt: "Once upon a time", max_tokens: 8, temperature: 0, stream: false }),
    });
    const { engine } = await eventually("the worker to be degraded", async () => {
      const health = await worker.client.health();
      return health.status === "degraded" && health;
    });
    assert((engine?.step_ms ?? 0) > (engine?.limit_ms ?? Infinity), JSON.stringify(engine));
    await Deno.remove(file);
    assertEquals((await (await stalled).json()).total_tokens, 8);
    const health = await eventually("the engine to wait for work", async () => {
      const again = await worker.client.health();
      return again.engine?.step_ms === null && again;
    });
    assertEquals(health.status, "alive");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the metrics tell the ages of steps", async () => {
  await using worker = await startWorker();
  await worker.client.selfTest({ ifIdleMs: 0 });
  // The last step may still be on its way out when its answer is there.
  const text = await eventually("no step under way", async () => {
    const response = await fetch(`${worker.url}/metrics`, {
      headers: { Authorization: `Bearer ${worker.key}` },
    });
    const text = await response.text();
    return text.includes("rbee_worker_engine_step_age_seconds 0\n") && text;
  });
  assert(/^rbee_worker_engine_last_step_age_seconds \d/m.test(text), text);
});
