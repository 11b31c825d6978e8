/** Workers that take too much memory: real processes, and the kernel's own figures. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { type TestHive, testHive } from "../../tests/helpers/test_hive.ts";
import { systemClock } from "../../daemon/clock.ts";
import { createLogger } from "../../daemon/log.ts";
import { guardMemory } from "./memory_guard.ts";
import { SYSTEM_PROCESSES } from "./process.ts";
import { parsePrivateMemory, privateMemory } from "./process_memory.ts";

const isLinux = Deno.build.os === "linux";
const log = createLogger({ part: "test", level: "error", format: "json", write: () => {} });

/** What a hive does by itself once it serves, as far as memory goes. */
function guarded({ workers }: TestHive): AsyncDisposable {
  const over = new AbortController();
  const guarding = guardMemory({
    ...{ workers, processes: SYSTEM_PROCESSES, clock: systemClock, log },
    signal: over.signal,
  });
  return {
    async [Symbol.asyncDispose]() {
      over.abort();
      await guarding;
    },
  };
}

async function loaded(hive: TestHive, slots: number) {
  const { worker_id, url, api_key } = await hive.spawn({ slots });
  const { pid } = await hive.until(worker_id, "idle");
  return { worker_id, pid, client: new WorkerClient({ baseUrl: url, apiKey: api_key }) };
}

async function tokensOf(client: WorkerClient, maxTokens: number): Promise<number> {
  const { events } = await client.infer({ prompt: "x", max_tokens: maxTokens });
  let tokens = 0;
  for await (const event of events) if ("token" in event) tokens++;
  return tokens;
}

Deno.test("lines of /proc are summed by process; what can't be read says nothing", () => {
  const found = parsePrivateMemory(
    "/proc/12/status:RssAnon:\t    1000 kB\n/proc/12/status:RssShmem:\t       0 kB\n/proc/12/status:VmSwap:\t    2000 kB\n" +
      "/proc/7/status:RssAnon:\t       1 kB\ngrep: /proc/9/status: No such file or directory\n",
  );
  assertEquals([...found], [[12, 3.072], [7, 0.001024]]);
});

Deno.test({
  name: "anonymous memory is reported for processes that exist",
  ignore: !isLinux,
  async fn() {
    assertEquals([...await privateMemory([])], []);
    const gone = new Deno.Command("true").spawn();
    await gone.status;
    const found = await privateMemory([Deno.pid, gone.pid]);
    assertEquals([...found.keys()], [Deno.pid]);
    assert(found.get(Deno.pid)! > 10);
  },
});

Deno.test({
  name:
    "a worker that grows by a request is killed near its limit with the figures, and its neighbour goes on",
  ignore: !isLinux,
  async fn() {
    await using home = await tempHome();
    await using hive = await testHive({ home: home.rbeeHome, worker: { tokenMs: 20 } });
    const neighbour = await loaded(hive, 1);
    hive.setWorker({ mode: "eats-memory" });
    const hungry = await loaded(hive, 2);
    await hive.client.workers();
    await using _guard = guarded(hive);
    await eventually("both plans", () => hive.registry.all().every(({ planMb }) => planMb > 0));

    const whole = tokensOf(neighbour.client, 200);
    const cut = tokensOf(hungry.client, 20).then(() => "whole", () => "cut");
    const failed = await eventually(
      "the end of the hungry one",
      () => hive.log.find(({ message, code }) => message === "worker failed" && code === "WORKER_CRASHED"),
      60_000,
    );
    assertEquals(await cut, "cut");
    assertStringIncludes(String(failed.reason), "MB of memory");
    const { state, error, memory } = await hive.client.worker(hungry.worker_id);
    assertEquals(state, "failed");
    const { private_mb, limit_mb } = error!.details as { private_mb: number; limit_mb: number };
    assert(private_mb > limit_mb, `${private_mb} of ${limit_mb}`);
    assertEquals(memory!.limit_mb, limit_mb);
    // 320 MB a second and a look each second: nowhere near the 2 GB at which it would stop by itself.
    assert(private_mb < 1_500, `${private_mb}`);
    await eventually("its process gone", async () => !(await hive.livePids()).includes(hungry.pid));
    assert(hive.log.some(({ cause, signal }) => cause === "memory" && signal === "SIGKILL"));

    assertEquals(await whole, 200);
    assertEquals(await hive.livePids(), [neighbour.pid]);
  },
});

Deno.test({
  name: "a worker that may finish its answer before it leaves may not take all memory meanwhile",
  ignore: !isLinux,
  async fn() {
    await using home = await tempHome();
    await using hive = await testHive({ home: home.rbeeHome, worker: { mode: "eats-memory" } });
    const hungry = await loaded(hive, 2);
    const cut = tokensOf(hungry.client, 20).then(() => "whole", () => "cut");
    await eventually(
      "its request",
      async () => (await hive.client.worker(hungry.worker_id)).state === "busy",
    );
    const stopping = hive.client.shutdownWorker(hungry.worker_id, { timeoutMs: 60_000 });
    await using _guard = guarded(hive);
    await stopping;
    assertEquals(await cut, "cut");
    assert(hive.log.some(({ message }) => message === "worker killed: it took too much memory"));
  },
});

Deno.test({
  name: "a worker that is adopted keeps the plan that it had",
  ignore: !isLinux,
  async fn() {
    await using home = await tempHome();
    const first = await testHive({ home: home.rbeeHome });
    const { worker_id } = await loaded(first, 1);
    await first.client.workers();
    let planMb = 0;
    {
      await using _guard = guarded(first);
      await eventually("its plan", () => (planMb = first.registry.all()[0].planMb) > 0);
    }
    await first.abandon();
    await using second = await testHive({ home: home.rbeeHome });
    await second.workers.adopt();
    await second.until(worker_id, "idle");
    await using _guard = guarded(second);
    await second.client.workers();
    assertEquals(second.registry.all().map((row) => row.planMb), [planMb]);
  },
});
