/** Downloads whose hive ends, whose network is away, and whose readers leave. */
import { assertEquals } from "@std/assert";
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { MAX_RESUMED_DOWNLOAD } from "./limits.ts";
import type { Models } from "./models.ts";
import { type Bed, follow, REF, startBed } from "./models_test_bed.ts";

const WAIT_MS = 20_000;

/** A download that has begun and brings nothing more until the hub is told to. */
async function stalledDownload(bed: Bed): Promise<string> {
  bed.hub.faults.add({ kind: "stall", afterBytes: 100 });
  const { download_id } = await bed.models.download(REF);
  await eventually("the download to stall", () => bed.hub.stalledCount > 0);
  return download_id;
}

/** Follows until that is told to end. */
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
  const [first, second] = [reader(bed.models, id), reader(bed.models, id)];
  first.leave();
  assertEquals(await bed.models.cancel(id), false);
  const others = follow(bed.models, id);
  second.leave();
  bed.hub.release();
  assertEquals((await others).last.stage, "complete");
});

Deno.test("the last reader's leaving ends a download that was canceled before", async () => {
  await using bed = await startBed();
  const id = await stalledDownload(bed);
  const [first, second] = [reader(bed.models, id), reader(bed.models, id)];
  first.leave();
  assertEquals(await bed.models.cancel(id), false);
  second.leave();
  await eventually("its end", async () => await bed.models.cancel(id));
  assertEquals(await bed.models.find(REF), undefined);
  assertEquals(second.events.filter(({ stage }) => stage === "error"), []);
});

Deno.test("asking again for a download takes back its cancel", async () => {
  await using bed = await startBed();
  const id = await stalledDownload(bed);
  const only = reader(bed.models, id);
  assertEquals(await bed.models.cancel(id), false);
  assertEquals(await bed.models.download(REF), { download_id: id });
  only.leave();
  const followed = follow(bed.models, id);
  bed.hub.release();
  assertEquals((await followed).last.stage, "complete");
});

Deno.test("a download that nobody follows is canceled at once", async () => {
  await using bed = await startBed();
  assertEquals(await bed.models.cancel(await stalledDownload(bed)), true);
});
