/** Downloads whose hive ends, whose network is away, and whose readers leave. */
import { assertEquals } from "@std/assert";
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { MAX_RESUMED_DOWNLOAD } from "./limits.ts";
import type { Models } from "./models.ts";
import { type Bed, REF, startBed } from "./models_test_bed.ts";

const WAIT_MS = 20_000;

/** A download that has started and then stalls until the hub is released. */
async function stalledDownload(bed: Bed): Promise<string> {
  bed.hub.faults.add({ kind: "stall", afterBytes: 100 });
  const { download_id } = await bed.models.download(REF);
  await eventually("the download to stall", () => bed.hub.stalledCount > 0);
  return download_id;
}

/** Follows a download until `leave` is called. */
function reader(models: Models, id: string) {
  const events: DownloadEvent[] = [];
  return { events, leave: models.progress(id, (event) => events.push(event)) };
}

/** A network that is down until it is let up. */
function network() {
  const state = { isDown: true, tries: 0 };
  const request = (url: string | URL, init?: RequestInit) => {
    if (!state.isDown) return fetch(url, init);
    state.tries++;
    return Promise.reject(new TypeError("connection refused"));
  };
  return { state, fetch: request };
}

Deno.test("a download that a hive was cut off from outlasts hives that start without a network", async () => {
  await using bed = await startBed();
  await stalledDownload(bed);
  await bed.restart();
  for (let hive = 0; hive < MAX_RESUMED_DOWNLOAD + 2; hive++) {
    const { state, fetch } = network();
    const models = await bed.restart({ fetch });
    models.resumeDownloads();
    await eventually("two rounds of attempts", () => state.tries > 12);
  }
  const { state, fetch } = network();
  const models = await bed.restart({ fetch });
  models.resumeDownloads();
  await eventually("attempts", () => state.tries > 0);
  state.isDown = false;
  await eventually("the model", async () => (await models.list()).length === 1, WAIT_MS);
  const { state: asked, fetch: after } = network();
  (await bed.restart({ fetch: after })).resumeDownloads();
  assertEquals(asked.tries, 0);
});

Deno.test("a download that can't come is not tried for ever", async () => {
  await using bed = await startBed();
  await stalledDownload(bed);
  bed.hub.faults.add({ kind: "status", status: 404 }, { purpose: "info", times: Infinity });
  bed.hub.faults.add({ kind: "status", status: 404 }, { purpose: "tree", times: Infinity });
  (await bed.restart()).resumeDownloads();
  await eventually("the refusal", () => bed.hub.requests.filter(({ status }) => status === 404).length > 0);
  const { state, fetch } = network();
  const models = await bed.restart({ fetch });
  models.resumeDownloads();
  assertEquals(state.tries, 0);
});

Deno.test("a download ends with its last reader, not with the first who has had enough", async () => {
  await using bed = await startBed();
  const id = await stalledDownload(bed);
  const readers = [1, 2, 3].map(() => reader(bed.models, id));
  for (const { leave } of readers.slice(1)) {
    assertEquals(await bed.models.cancel(id), false);
    leave();
    // Leaving twice is leaving once.
    leave();
  }
  assertEquals(readers[0].events.filter(({ stage }) => stage === "error"), []);
  assertEquals(await bed.models.cancel(id), true);
  assertEquals(readers[0].events.at(-1)?.stage, "error");
  assertEquals(await bed.models.find(REF), undefined);
});

Deno.test("a download that nobody follows is canceled at once", async () => {
  await using bed = await startBed();
  assertEquals(await bed.models.cancel(await stalledDownload(bed)), true);
});
