import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import type { Hub, HubRequest } from "../../tests/helpers/hub.ts";
import type { HubFault } from "../../tests/helpers/hub_faults.ts";
import type { ModelLimits } from "./limits.ts";
import {
  type Bed,
  fetchError,
  fetchModel,
  fetchPath,
  filesBelow,
  follow,
  REF,
  startBed,
  tinyGguf,
} from "./models_test_bed.ts";

const CONTENT = tinyGguf();
const SIZE = CONTENT.length;
const CONNECTIONS = 4;
const PART_BYTES = 10_000;
/** A part takes twice as long as it takes to see that. */
const SLOW: HubFault = { kind: "drip", bytesPerSecond: 5 * PART_BYTES };

function contentRequests(hub: Hub): HubRequest[] {
  return hub.requestsFor({ purpose: "content", method: "GET" });
}

/** What a request asks for; the hub counts the last byte in. */
function rangeOf(request: HubRequest): { start: number; end: number } {
  const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range")!)!;
  return { start: Number(start), end: Number(last) + 1 };
}

/** The requests that have not been given all they asked for. */
function underWay(hub: Hub): HubRequest[] {
  return contentRequests(hub).filter((request) => {
    const { start, end } = rangeOf(request);
    return !request.ended && request.sentBytes < end - start;
  });
}

/**
 * A hub that is slow until there are several connections, and then answers each request as `next` says; whatever
 * that is, the first one goes on slowly.
 */
async function startSlowBed(
  next: (request: HubRequest, hub: Hub) => HubFault | undefined,
  options: { limits?: Partial<ModelLimits> } = {},
): Promise<Bed> {
  let isKnownSlow = false;
  const bed: Bed = await startBed({
    hub: {
      fault(request) {
        if (request.purpose !== "content") return undefined;
        // Whoever asks while another answer is under way.
        isKnownSlow ||= underWay(bed.hub).length > 1;
        return isKnownSlow ? next(request, bed.hub) : SLOW;
      },
    },
    models: { limits: { connections: CONNECTIONS, partBytes: PART_BYTES, ...options.limits } },
  });
  return bed;
}

function retries(events: readonly DownloadEvent[]) {
  return events.filter((event) => event.stage === "retrying");
}

Deno.test("a slow hub has as many requests at once as connections are allowed, and sends each byte once", async () => {
  let most = 0;
  await using bed = await startSlowBed((_, hub) => {
    most = Math.max(most, underWay(hub).length);
    return most < CONNECTIONS ? SLOW : undefined;
  });
  const { last, events } = await fetchModel(bed.models);
  assert(last.stage === "complete");
  assertEquals(await Deno.readFile(last.local_path), CONTENT);
  assertEquals([most, retries(events)], [CONNECTIONS, []]);

  const requests = contentRequests(bed.hub);
  const ranges = requests.map(rangeOf).sort((a, b) => a.start - b.start);
  assertEquals(ranges.map(({ start }) => start), [0, ...ranges.slice(0, -1).map(({ end }) => end)]);
  assertEquals(requests.reduce((sum, { sentBytes }) => sum + sentBytes, 0), SIZE);
  // The hub itself was asked once for where the file is.
  assertEquals(bed.hub.requestsFor({ purpose: "resolve" }).length, 1);
});

Deno.test("whatever goes wrong with several connections, the right file comes in the end", async () => {
  const afterBytes = fc.nat(PART_BYTES);
  const fault: fc.Arbitrary<HubFault | undefined> = fc.oneof(
    fc.record({ kind: fc.constant("reset" as const), afterBytes }),
    fc.record({ kind: fc.constant("truncate" as const), afterBytes }),
    fc.record({ kind: fc.constant("stall" as const), afterBytes }),
    fc.constant({ kind: "status", status: 429, retryAfter: "1" } as const),
    fc.constant({ kind: "status", status: 503 } as const),
    fc.constant({ kind: "no_range" } as const),
    fc.constant({ kind: "hang_up" } as const),
    fc.constant(undefined),
  );
  const flip = fc.option(fc.nat(SIZE - 1), { nil: undefined });
  await fc.assert(
    fc.asyncProperty(fc.array(fault, { maxLength: 12 }), flip, async (faults, atByte) => {
      const waiting = [...faults];
      let toFlip = atByte;
      await using bed = await startSlowBed((request) => {
        const { start, end } = rangeOf(request);
        if (toFlip !== undefined && toFlip >= start && toFlip < end) {
          const flipped: HubFault = { kind: "flip", atByte: toFlip };
          toFlip = undefined;
          return flipped;
        }
        return waiting.shift();
        // Each fault may end an attempt, and a machine that is busy elsewhere looks like a hub that stalls.
      }, { limits: { stallTimeoutMs: 250, stallBytes: 1, maxAttempts: 40 } });
      const path = await fetchPath(bed.models);
      assertEquals(await Deno.readFile(path), CONTENT);
      assertEquals((await filesBelow(bed.repoFolder)).filter((path) => path.includes(".rbee-part")), []);
    }),
    { numRuns: 20 },
  );
});

Deno.test("a hub without Range is asked by one connection, however slow it is", async () => {
  const requests: HubRequest[] = [];
  await using bed = await startBed({
    hub: {
      bytesPerSecond: SIZE * 5,
      fault(request) {
        if (request.purpose !== "content") return undefined;
        requests.push(request);
        return { kind: "no_range" };
      },
    },
    models: { limits: { connections: CONNECTIONS, partBytes: PART_BYTES } },
  });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), CONTENT);
  assertEquals(requests.map(({ status, sentBytes }) => [status, sentBytes]), [[200, SIZE]]);
});

Deno.test("a file that the hub puts in another one's place is not glued together, however many connections there are", async () => {
  let changes = 0;
  await using bed = await startSlowBed((_, hub) => {
    if (changes > 0 || underWay(hub).length < CONNECTIONS) return undefined;
    changes++;
    return { kind: "change", content: tinyGguf(9) };
  });
  const error = await fetchError(bed.models);
  assertEquals([error.code, changes], ["CHECKSUM_MISMATCH", 1]);
  assert(contentRequests(bed.hub).some(({ status }) => status === 200));
  assertEquals(await filesBelow(bed.repoFolder), []);
});

Deno.test("the same file under another ETag is fetched anew, and right", async () => {
  let changes = 0;
  await using bed = await startSlowBed((_, hub) => {
    if (changes > 0 || underWay(hub).length < CONNECTIONS) return undefined;
    changes++;
    return { kind: "change", content: CONTENT };
  });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), CONTENT);
  const requests = contentRequests(bed.hub);
  const whole = requests.filter(({ status }) => status === 200);
  assert(whole.every((request) => request.headers.get("if-range") !== null));
  assertEquals(whole.at(-1)?.sentBytes, SIZE);
});

Deno.test("a hub that sends a byte now and then is given up as silent, while the others go on", async () => {
  let slowest: HubRequest | undefined;
  await using bed = await startSlowBed((request) => {
    if (slowest !== undefined) return slowest.ended ? undefined : SLOW;
    slowest = request;
    return { kind: "drip", bytesPerSecond: 10 };
  }, { limits: { stallTimeoutMs: 400, stallBytes: 1_000 } });
  const followed = fetchModel(bed.models);
  await bed.hub.until(() => slowest?.ended === true);
  const { last } = await followed;
  assert(last.stage === "complete");
  assertEquals(await Deno.readFile(last.local_path), CONTENT);
  const { start } = rangeOf(slowest!);
  assert(slowest!.sentBytes < 500, `${slowest!.sentBytes} bytes`);
  const requests = contentRequests(bed.hub);
  const [, again, ...more] = requests.filter((request) => rangeOf(request).start === start);
  assertEquals([again.sentBytes, more], [PART_BYTES, []]);
  assert(requests.indexOf(again) > requests.indexOf(slowest!) + 1);
});

Deno.test("a hub that sends a byte now and then to its only caller is given up as silent, and asked again", async () => {
  await using bed = await startBed({
    models: { limits: { connections: 1, stallTimeoutMs: 300, stallBytes: 1_000 } },
  });
  bed.hub.faults.add({ kind: "drip", bytesPerSecond: 50 });
  const followed = fetchModel(bed.models);
  await bed.hub.until((hub) => contentRequests(hub)[0]?.ended === true);
  const { last, events } = await followed;
  assert(last.stage === "complete");
  assertEquals(await Deno.readFile(last.local_path), CONTENT);
  const [retry] = retries(events);
  assert(retry.stage === "retrying");
  assertMatch(retry.reason, /^no byte for 0.3 s$/);
});

Deno.test("a download over several connections that is canceled keeps the whole chunks, and the next one fetches the rest", async () => {
  let isCanceled = false;
  await using bed = await startSlowBed(
    () => isCanceled ? undefined : { kind: "stall", afterBytes: 3_250 },
    { limits: { progressIntervalMs: 0 } },
  );
  const answer = await bed.models.download(REF);
  const counts: number[] = [];
  const leave = bed.models.progress(answer.download_id, (event) => {
    if (event.stage === "downloading") counts.push(event.bytes_downloaded);
  });
  const followed = follow(bed.models, answer.download_id);
  await bed.hub.until((hub) => hub.stalledCount === CONNECTIONS);
  const sent = contentRequests(bed.hub).map(({ sentBytes }) => sentBytes);
  const sum = (list: number[]) => list.reduce((all, bytes) => all + bytes, 0);
  await eventually("all that was sent has come", () => counts.includes(sum(sent)));
  isCanceled = true;
  leave();
  await bed.models.cancel(answer.download_id);
  const { last } = await followed;
  assert(last.stage === "error");
  assertEquals(last.error.code, "REQUEST_CANCELED");

  const keptBytes = sum(sent.map((bytes) => bytes - bytes % 500));
  assert(keptBytes < sum(sent));
  const models = await bed.restart();
  const again = await fetchModel(models);
  assert(again.last.stage === "complete");
  assertEquals(await Deno.readFile(again.last.local_path), CONTENT);
  const rest = contentRequests(bed.hub).slice(sent.length).map(({ sentBytes }) => sentBytes);
  assertEquals(sum(rest), SIZE - keptBytes);
});
