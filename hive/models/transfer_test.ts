import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { ConfigSchema } from "../../home/config_schema.ts";
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import type { HubFault } from "../../tests/helpers/hub_faults.ts";
import {
  type Bed,
  fetchError,
  fetchModel,
  fetchPath,
  FILE,
  filesBelow,
  follow,
  REF,
  REPO,
  startBed,
  tinyGguf,
} from "./models_test_bed.ts";
import { REAL_TIMING } from "./timing.ts";

const SIZE = tinyGguf().length;

function contentRequests(bed: Bed) {
  return bed.hub.requestsFor({ purpose: "content", method: "GET" });
}

function retries(events: readonly DownloadEvent[]) {
  return events.filter((event) => event.stage === "retrying");
}

/** Files of the cache whose bytes are not those of a finished download. */
async function partials(bed: Bed): Promise<string[]> {
  return (await filesBelow(bed.repoFolder)).filter((path) => path.includes(".rbee-part"));
}

/** The header that asks for the rest of the file. */
function restFrom(start: number): string {
  return `bytes=${start}-${SIZE - 1}`;
}

Deno.test("connections reset at random places end with the right file", async () => {
  const offsets = fc.array(fc.integer({ min: 0, max: SIZE - 1 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(offsets, async (resets) => {
      await using bed = await startBed();
      for (const afterBytes of resets) bed.hub.faults.add({ kind: "reset", afterBytes });
      const path = await fetchPath(bed.models);
      assertEquals(await Deno.readFile(path), tinyGguf());
      assert(contentRequests(bed).length <= resets.length + 1);
    }),
    { numRuns: 20 },
  );
});

Deno.test("what came before a connection ended is not fetched again", async () => {
  await using bed = await startBed();
  for (const afterBytes of [100_000, 50_000, 1]) bed.hub.faults.add({ kind: "truncate", afterBytes });
  const { events, last } = await fetchModel(bed.models);
  assertEquals(last.stage, "complete");
  const requests = contentRequests(bed);
  assertEquals(requests.map((request) => request.headers.get("range")), [
    restFrom(0),
    restFrom(100_000),
    restFrom(150_000),
    // Of what is no whole chunk nobody knows.
    restFrom(150_000),
  ]);
  assertEquals(requests.reduce((sum, request) => sum + request.sentBytes, 0), SIZE + 1);
  assertEquals(retries(events).map((event) => event.stage === "retrying" && event.attempt), [2, 3, 4]);
});

Deno.test("six attempts with doubling pauses, then the last error", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "hang_up" }, { times: Infinity });
  const { events, last } = await fetchModel(bed.models);
  assert(last.stage === "error");
  assertEquals(last.error.code, "DOWNLOAD_FAILED");
  assertEquals(contentRequests(bed).length, 6);
  assertEquals(bed.pausesMs, [100, 200, 400, 800, 1600]);
  assertEquals(retries(events).length, 5);
  assertEquals(await partials(bed), []);
});

Deno.test("an attempt that brought much starts the count anew", async () => {
  await using bed = await startBed({ models: { limits: { fruitfulBytes: 10_000 } } });
  for (let fault = 0; fault < 20; fault++) bed.hub.faults.add({ kind: "truncate", afterBytes: 10_000 });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
  assertEquals(new Set(bed.pausesMs), new Set([100]));
});

Deno.test("a flipped byte is noticed, and the file fetched again", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "flip", atByte: 123_456 });
  const { events, last } = await fetchModel(bed.models);
  assert(last.stage === "complete");
  assertEquals(await Deno.readFile(last.local_path), tinyGguf());
  const [retry] = retries(events);
  assert(retry.stage === "retrying");
  assertStringIncludes(retry.reason, "checksum");
});

for (const atByte of [0, SIZE - 1]) {
  Deno.test(`a byte flipped twice, at ${atByte}, is CHECKSUM_MISMATCH and nothing is left`, async () => {
    await using bed = await startBed();
    bed.hub.faults.add({ kind: "flip", atByte }, { times: 2 });
    const error = await fetchError(bed.models);
    assertEquals(error.code, "CHECKSUM_MISMATCH");
    assertEquals(contentRequests(bed).length, 2);
    assertEquals(await filesBelow(bed.repoFolder), []);
  });
}

Deno.test("a partial file with wrong bytes is replaced by the right ones", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "truncate", afterBytes: 200_000 });
  // Once for the address that is known, once for the one that the hub gives instead.
  bed.hub.faults.add({ kind: "status", status: 404 }, { times: 2 });
  assertEquals((await fetchError(bed.models)).code, "DOWNLOAD_FAILED");
  const [partial] = await partials(bed);
  const bytes = await Deno.readFile(`${bed.repoFolder}/${partial}`);
  bytes[1000] ^= 1;
  await Deno.writeFile(`${bed.repoFolder}/${partial}`, bytes);
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
});

for (const deltaBytes of [-1000, 1000]) {
  Deno.test(`a length that is ${deltaBytes} bytes wrong is noticed before the bytes come`, async () => {
    await using bed = await startBed();
    bed.hub.faults.add({ kind: "wrong_length", deltaBytes });
    assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
    bed.hub.commit(REPO, { "other-Q8_0.gguf": tinyGguf(2) });
    bed.hub.faults.add({ kind: "wrong_length", deltaBytes }, { times: Infinity });
    assertEquals((await fetchError(bed.models, `${REF}:Q8_0`)).code, "CHECKSUM_MISMATCH");
  });
}

Deno.test("silence is a failure, and the download goes on where it was", async () => {
  await using bed = await startBed({ models: { limits: { stallTimeoutMs: 50 } } });
  bed.hub.faults.add({ kind: "stall", afterBytes: 65_536 });
  const { events, last } = await fetchModel(bed.models);
  assertEquals(last.stage, "complete");
  const [retry] = retries(events);
  assert(retry.stage === "retrying");
  assertMatch(retry.reason, /^no byte for 0.05 s$/);
  assertEquals(contentRequests(bed)[1].headers.get("range"), restFrom(65_500));
});

Deno.test("a storage host that is always silent is DOWNLOAD_TIMEOUT", async () => {
  await using bed = await startBed({ models: { limits: { stallTimeoutMs: 10 } } });
  bed.hub.faults.add({ kind: "stall", afterBytes: 0 }, { times: Infinity });
  assertEquals((await fetchError(bed.models)).code, "DOWNLOAD_TIMEOUT");
  assertEquals(contentRequests(bed).length, 6);
});

Deno.test("Retry-After is obeyed when it asks for more than the plan, up to a bound", async () => {
  await using bed = await startBed();
  const statuses: HubFault[] = [
    { kind: "status", status: 429, retryAfter: "7" },
    { kind: "status", status: 503, retryAfter: "99999" },
    { kind: "status", status: 503, retryAfter: "0" },
  ];
  for (const fault of statuses) bed.hub.faults.add(fault);
  assertEquals((await fetchModel(bed.models)).last.stage, "complete");
  assertEquals(bed.pausesMs, [7_000, 300_000, 400]);
});

for (const status of [401, 403, 404, 410]) {
  Deno.test(`HTTP ${status} is not tried again`, async () => {
    await using bed = await startBed();
    bed.hub.faults.add({ kind: "status", status }, { purpose: "resolve" });
    const expected = { 401: "MODEL_ACCESS_DENIED", 403: "MODEL_ACCESS_DENIED", 404: "MODEL_NOT_FOUND" };
    const error = await fetchError(bed.models);
    assertEquals(error.code, expected[status as keyof typeof expected] ?? "DOWNLOAD_FAILED");
    assertEquals(bed.pausesMs, []);
  });
}

Deno.test("a server without Range sends everything again, and that is used", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "truncate", afterBytes: 100_000 });
  bed.hub.faults.add({ kind: "no_range" });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
  assertEquals(contentRequests(bed).map((request) => request.status), [206, 200]);
});

Deno.test("a file that changes between attempts is not glued together", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "truncate", afterBytes: 100_000 });
  bed.hub.faults.add({ kind: "change", content: tinyGguf(9) });
  const error = await fetchError(bed.models);
  assertEquals(error.code, "CHECKSUM_MISMATCH");
  const [, second, third] = contentRequests(bed);
  assert(second.headers.get("if-range")?.startsWith('"'));
  assertEquals([second.status, third.status], [200, 206]);
});

Deno.test("a storage host that has less than the hub says is a mismatch", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "truncate", afterBytes: SIZE - 10 });
  bed.hub.faults.add({ kind: "status", status: 416 });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
  assertEquals(contentRequests(bed)[2].headers.get("range"), restFrom(0));
});

Deno.test("a bandwidth cap is kept, and waiting for it is no silence", async () => {
  await using bed = await startBed({ models: { limits: { stallTimeoutMs: 25 } } });
  const config = ConfigSchema.parse({ hub: { endpoint: bed.hub.url, max_bandwidth: 1 } });
  const models = await bed.restart({ config, timing: REAL_TIMING });
  const startedMs = performance.now();
  const { events, last } = await fetchModel(models);
  assertEquals([last.stage, retries(events)], ["complete", []]);
  // At 1 MB/s, less the burst at the beginning.
  const leastMs = SIZE / 1_000 - 100;
  assert(performance.now() - startedMs >= leastMs);
});

Deno.test("a byte a moment is slow, not silent", async () => {
  await using bed = await startBed({ models: { limits: { stallTimeoutMs: 1_000 } } });
  bed.hub.faults.add({ kind: "drip", bytesPerSecond: 1_000_000 });
  assertEquals((await fetchModel(bed.models)).last.stage, "complete");
  assertEquals(bed.pausesMs, []);
});

Deno.test("a small file that git itself stores is verified too", async () => {
  const files = { [FILE]: { content: tinyGguf(), lfs: false } };
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } }, resolveCache: true } });
  bed.hub.faults.add({ kind: "flip", atByte: 99 });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
  assertEquals(bed.pausesMs.length, 1);
  const [model] = await bed.models.list();
  assertEquals(model.sha256, null);
});

Deno.test("an address that has expired is not asked again: the next download gets a fresh one", async () => {
  await using bed = await startBed({
    hub: {
      fault(request) {
        if (request.purpose === "content" && contentRequests(bed).length === 1) bed.hub.expireSignedUrls();
        return undefined;
      },
    },
  });
  const error = await fetchError(bed.models);
  assertEquals([error.code, error.details.status], ["DOWNLOAD_FAILED", 403]);
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
});

Deno.test("a disk that fills up in mid-download leaves nothing behind", async () => {
  await using bed = await startBed();
  const { write } = Deno.FsFile.prototype;
  let writes = 0;
  Deno.FsFile.prototype.write = function (bytes) {
    if (++writes > 1) return Promise.reject(Object.assign(new Error("No space left"), { code: "ENOSPC" }));
    return write.call(this, bytes);
  };
  try {
    const error = await fetchError(bed.models);
    assertEquals(error.code, "INSUFFICIENT_DISK");
    assertEquals(error.details.required_mb, 1);
    assert(Number(error.details.available_mb) > 0);
  } finally {
    Deno.FsFile.prototype.write = write;
  }
  assertEquals(await filesBelow(bed.repoFolder), []);
});

Deno.test("a canceled download keeps what came, and the next one fetches the rest", async () => {
  await using bed = await startBed({ models: { limits: { progressIntervalMs: 0 } } });
  bed.hub.faults.add({ kind: "stall", afterBytes: 150_000 });
  const answer = await bed.models.download(REF);
  const arrived = Promise.withResolvers<void>();
  const leave = bed.models.progress(answer.download_id, (event) => {
    if (event.stage === "downloading" && event.bytes_downloaded === 150_000) arrived.resolve();
  });
  const followed = follow(bed.models, answer.download_id);
  await arrived.promise;
  leave();
  await bed.models.cancel(answer.download_id);
  const { last } = await followed;
  assert(last.stage === "error");
  assertEquals(last.error.code, "REQUEST_CANCELED");

  const again = await fetchModel(await bed.restart());
  assertEquals(again.last.stage, "complete");
  assertEquals(again.events[0].stage, "downloading");
  const [, rest, ...more] = contentRequests(bed);
  assertEquals([rest.headers.get("range"), rest.sentBytes, more], [restFrom(150_000), SIZE - 150_000, []]);
});
