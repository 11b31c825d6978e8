/** A hive that ends while a worker generates, in each way there is: the answer goes on, and so does the worker. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { HAND_OVER_EXIT_CODE, HAND_OVER_SIGNAL } from "../daemon/lifecycle.ts";
import { processIdentity } from "../home/process_identity.ts";
import type { SpawnResponse } from "../protocol/hive_schemas.ts";
import { WorkerClient } from "../protocol/worker_client.ts";
import type { InferenceEvent } from "../protocol/worker_schemas.ts";
import type { SpawnInput } from "../protocol/spawn_request.ts";
import { type RunningHive, startDaemon, startHive } from "./helpers/daemons.ts";
import { eventually } from "./helpers/eventually.ts";
import { writeLlamaGguf } from "./helpers/gguf_writer.ts";
import { SLOW } from "./helpers/slow_model.ts";
import { type TempHome, tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";

/** They take a few seconds: enough for a hive to end and another to start meanwhile. */
const TOKENS = 1_500;

async function busyWorker(home: TempHome, hive: RunningHive) {
  const path = join(home.path, "chain.gguf");
  await writeLlamaGguf(path, SLOW);
  const wish: SpawnInput = { model_ref: `file:${path}`, slots: 2, ctx_size: SLOW.ctx };
  const spawned = await hive.client.spawn(wish);
  const worker = new WorkerClient({ baseUrl: spawned.url, apiKey: spawned.api_key });
  await eventually("a loaded model", async () => (await worker.ready()).ready);
  const { events } = await worker.infer({ prompt: "a", max_tokens: TOKENS, temperature: 0 });
  const first = (await events.next()).value!;
  return { wish, spawned, answer: Array.fromAsync(events).then((rest) => [first, ...rest]) };
}

/** No token is missing, doubled or another than it would have been. */
function assertWhole(answer: readonly InferenceEvent[]): void {
  const tokens = answer.slice(0, -1).map((event) => {
    assert("token" in event);
    return [event.index, event.id];
  });
  const first = tokens[0][1];
  assertEquals(tokens, Array.from({ length: TOKENS }, (_, index) => [index, first + index]));
  const last = answer.at(-1)!;
  assertEquals("done" in last && last.stop_reason, "length");
}

async function assertAdoptedBusy(hive: RunningHive, { worker_id }: SpawnResponse): Promise<void> {
  const { workers } = await hive.client.workers();
  assertEquals(workers.map(({ worker_id, state }) => [worker_id, state]), [[worker_id, "busy"]]);
}

const ENDS: { name: string; args?: string[]; end: (hive: RunningHive) => Promise<unknown> }[] = [
  {
    name: "SIGTERM with --keep-workers",
    args: ["--keep-workers"],
    end: async (hive) => assertEquals((await hive.stop()).code, 0),
  },
  { name: "SIGKILL", end: (hive) => hive.kill() },
  {
    name: "a hand-over",
    async end(hive) {
      Deno.kill(hive.pid, HAND_OVER_SIGNAL);
      assertEquals((await hive.status).code, HAND_OVER_EXIT_CODE);
    },
  },
];

for (const { name, args, end } of ENDS) {
  Deno.test(`${name} in the middle of an answer: it arrives whole, and the next hive adopts its worker`, async () => {
    await using home = await tempHome();
    await using first = await startHive({ home, args });
    const { wish, spawned, answer } = await busyWorker(home, first);
    await end(first);
    await using next = await startHive({ home });
    await assertAdoptedBusy(next, spawned);
    assertWhole(await answer);
    const again = await next.client.spawn(wish);
    assertEquals([again.worker_id, again.reused], [spawned.worker_id, true]);
    const worker = new WorkerClient({ baseUrl: again.url, apiKey: again.api_key });
    const after = await Array.fromAsync((await worker.infer({ prompt: "a", max_tokens: 5 })).events);
    assertEquals(after.length, 6);
    assertEquals((await next.stop()).code, 0);
    for (const pid of next.workerPids()) assertEquals(await processIdentity(pid), undefined);
  });
}

Deno.test("a worker whose hive is gone for good leaves by itself, and one that is asked for its health stays", async () => {
  await using home = await tempHome();
  await using worker = startDaemon({
    main: "worker/main.ts",
    permissions: "worker",
    args: ["--model", STORIES, "--port", "0", "--orphan-timeout", "1"],
    env: { ...home.env, RBEE_WORKER_API_KEY: "a-key-for-this-test" },
  });
  const { url } = await worker.logged("listening", ({ message }) => message === "listening");
  const client = new WorkerClient({ baseUrl: String(url), apiKey: "a-key-for-this-test" });
  const untilMs = performance.now() + 2_000;
  await eventually("two seconds of questions", async () => {
    await client.health();
    return performance.now() > untilMs;
  });
  assertEquals((await worker.status).code, 0);
  await worker.logged(
    "why",
    ({ message }) => message === "the hive of this worker is gone for good: leaving",
  );
});
