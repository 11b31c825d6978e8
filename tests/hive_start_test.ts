/** What a hive does by itself when it starts: goes on with downloads, and starts what is to be preloaded. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { startHive } from "./helpers/daemons.ts";
import { eventually } from "./helpers/eventually.ts";
import { startHub } from "./helpers/hub.ts";
import { largeModel } from "./helpers/large_model.ts";
import { hubBytes } from "./helpers/pull.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";

const REF = "hf:acme/large";
const FAKE = { mode: "normal" } as const;
const CONTENT = largeModel(20_000_000);

async function slowHub() {
  return await startHub({
    repos: { "acme/large": { files: { "large-Q4_K_M.gguf": CONTENT } } },
    bytesPerSecond: 2_000_000,
  });
}

Deno.test("a download that the end of a hive cut off is finished by the next one, unasked", async () => {
  await using hub = await slowHub();
  await using home = await tempHome({ hfEndpoint: hub.url });
  await using killed = await startHive({ home, worker: FAKE });
  await killed.client.download(REF);
  await hub.until((hub) => hubBytes(hub) > 3_000_000);
  await killed.kill();
  await using stopped = await startHive({ home, worker: FAKE });
  await stopped.logged("download resumed", ({ message }) => message === "download resumed");
  // Leaving in order cuts it off, too.
  await stopped.stop();
  await using last = await startHive({ home, worker: FAKE });
  await eventually(
    "the whole model",
    async () => (await last.client.models()).models.some(({ reference }) => reference === REF),
    30_000,
  );
  assert(hubBytes(hub) < 1.5 * CONTENT.generate, "most of it was fetched twice");
  await last.stop();
  await using after = await startHive({ home, worker: FAKE });
  assertEquals(after.logLines().filter(({ message }) => message === "download resumed"), []);
});

Deno.test("a download that was canceled is not resumed", async () => {
  await using hub = await slowHub();
  await using home = await tempHome({ hfEndpoint: hub.url });
  await using hive = await startHive({ home, worker: FAKE });
  const { download_id } = await hive.client.download(REF);
  await hub.until((hub) => hubBytes(hub) > 1_000_000);
  await hive.client.cancelDownload(download_id);
  await hive.kill();
  await using next = await startHive({ home, worker: FAKE });
  await next.stop();
  assertEquals(next.logLines().filter(({ message }) => message === "download resumed"), []);
});

Deno.test("what is to be preloaded is fetched, started and pinned; what can't be is given up and told", async () => {
  await using hub = await startHub({
    repos: { "acme/bee": { files: { "bee-Q4_K_M.gguf": { path: STORIES } } } },
  });
  await using home = await tempHome({ hfEndpoint: hub.url });
  const preload = ["hf:acme/nothing", "hf:acme/bee", { model_ref: "builtin:stories", slots: 2, pin: false }];
  await Deno.writeTextFile(join(home.rbeeHome, "config.yaml"), JSON.stringify({ hive: { preload } }));
  await using hive = await startHive({ home, worker: FAKE });
  const failed = await hive.logged("a failure", ({ message }) => message === "worker not preloaded");
  assertEquals([failed.model_ref, failed.code, failed.tried_again], [
    "hf:acme/nothing",
    "MODEL_ACCESS_DENIED",
    false,
  ]);
  const loaded = await eventually("two workers", async () => {
    const { workers } = await hive.client.workers();
    return workers.length === 2 && workers.every(({ state }) => state === "idle") && workers;
  });
  assertEquals(
    loaded.map((
      { pinned, slots_total, idle_timeout_seconds },
    ) => [pinned, slots_total, idle_timeout_seconds]),
    [[true, 4, 0], [false, 2, 300]],
  );
});
