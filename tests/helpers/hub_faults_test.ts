import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { type Hub, startHub } from "./hub.ts";
import {
  fetchModel,
  getJson,
  MODEL,
  MODEL_BYTES,
  REPO,
  sha256,
  tinyHub,
  type TreeEntry,
  wholeModel,
} from "./tiny_hub.ts";

/** All bytes that come, and whether the end was an orderly one. */
async function drain(response: Response): Promise<{ bytes: Uint8Array; complete: boolean }> {
  const chunks: Uint8Array[] = [];
  let complete = true;
  try {
    for await (const chunk of response.body!) chunks.push(chunk);
  } catch {
    complete = false;
  }
  return { bytes: new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer()), complete };
}

Deno.test("a reset ends a body in the middle and is no orderly close", async () => {
  await using hub = await tinyHub();
  hub.faults.add({ kind: "reset", afterBytes: 100_000 });
  const { bytes, complete } = await drain(await fetchModel(hub));
  assert(!complete);
  assert(bytes.length <= 100_000, `${bytes.length}`);
  assertEquals(hub.requests.at(-1)!.sentBytes, 100_000);
  assertEquals(hub.faults.pending, 0);

  hub.faults.add({ kind: "reset", afterBytes: 0 });
  const redirect = await fetchModel(hub, { redirect: "manual" });
  await redirect.body?.cancel();
  const { hostname, port, pathname, search } = new URL(redirect.headers.get("location")!);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode(`GET ${pathname}${search} HTTP/1.1\r\nHost: x\r\n\r\n`));
  await assertRejects(() => new Response(connection.readable).text(), Deno.errors.ConnectionReset);
});

Deno.test("a hang-up gives no answer at all", async () => {
  await using hub = await tinyHub();
  hub.faults.add({ kind: "hang_up" }, { purpose: "tree" });
  await assertRejects(() => fetch(`${hub.url}/api/models/${REPO}/tree/main`), TypeError);
  assertEquals((await getJson<TreeEntry[]>(`${hub.url}/api/models/${REPO}/tree/main`)).length, 2);
});

Deno.test("truncated, longer, shorter and flipped bodies come as ordered", async () => {
  await using hub = await tinyHub();
  const whole = await wholeModel(hub);
  hub.faults.add({ kind: "truncate", afterBytes: 70_000 });
  hub.faults.add({ kind: "wrong_length", deltaBytes: 10 });
  hub.faults.add({ kind: "wrong_length", deltaBytes: -10 });
  hub.faults.add({ kind: "flip", atByte: 150_000 });
  const truncated = await fetchModel(hub);
  assertEquals(truncated.headers.get("content-length"), String(MODEL_BYTES));
  const cut = await drain(truncated);
  assertEquals([cut.bytes.length, cut.complete], [70_000, false]);
  assertEquals((await wholeModel(hub)).length, MODEL_BYTES + 10);
  assertEquals((await wholeModel(hub)).length, MODEL_BYTES - 10);

  const flipped = await (await fetchModel(hub, { headers: { range: "bytes=100000-" } })).bytes();
  const differences = [...flipped.entries()].filter(([at, byte]) => byte !== whole[100_000 + at]);
  assertEquals(differences, [[50_000, 255 - whole[150_000]]]);
});

Deno.test("a stalled body goes on when released, and is given up when the client leaves", async () => {
  await using hub = await tinyHub();
  hub.faults.add({ kind: "stall", afterBytes: 1000 }, { times: 2 });
  const body = fetchModel(hub).then((response) => response.bytes());
  await hub.until(() => hub.stalledCount === 1);
  assertEquals(hub.requests.at(-1)!.sentBytes, 1000);
  hub.release();
  assertEquals((await body).length, MODEL_BYTES);

  const abort = new AbortController();
  const given = fetchModel(hub, { signal: abort.signal }).then((response) => response.bytes());
  await hub.until(() => hub.stalledCount === 1);
  abort.abort();
  await assertRejects(() => given);
  await hub.until(() => hub.stalledCount === 0 && hub.requests.at(-1)!.ended);
});

Deno.test("disposal does not wait for stalled answers", async () => {
  let stalled: Promise<unknown>;
  {
    await using hub = await tinyHub();
    hub.faults.add({ kind: "stall", afterBytes: 0 });
    stalled = fetchModel(hub).then((response) => response.bytes());
    stalled.catch(() => {});
    await hub.until(() => hub.stalledCount === 1);
  }
  await assertRejects(() => stalled);
});

Deno.test("a drip keeps to its speed, and so does a hub with a limit", async () => {
  const seconds = async (hub: Hub) => {
    const started = performance.now();
    await (await fetchModel(hub, { headers: { range: "bytes=0-29999" } })).bytes();
    return (performance.now() - started) / 1000;
  };
  await using dripping = await tinyHub();
  dripping.faults.add({ kind: "drip", bytesPerSecond: 100_000 });
  assert(await seconds(dripping) > 0.25);
  await using limited = await tinyHub({ bytesPerSecond: 100_000 });
  assert(await seconds(limited) > 0.25);
});

Deno.test("error answers come for as many requests as ordered, with Retry-After", async () => {
  await using hub = await tinyHub();
  hub.faults.add({ kind: "status", status: 503 }, { purpose: "resolve", method: "HEAD", times: 2 });
  hub.faults.add({ kind: "status", status: 429, retryAfter: "7" }, { purpose: "resolve", path: "tiny" });
  const statuses: number[] = [];
  for (let i = 0; i < 3; i++) {
    statuses.push((await fetchModel(hub, { method: "HEAD", redirect: "manual" })).status);
  }
  assertEquals(statuses, [503, 503, 302]);
  const limited = await fetchModel(hub, { redirect: "manual" });
  assertEquals([limited.status, limited.headers.get("retry-after")], [429, "7"]);
  assertEquals(hub.faults.pending, 0);
});

Deno.test("a host that knows no ranges sends the whole file", async () => {
  await using hub = await tinyHub();
  hub.faults.add({ kind: "no_range" });
  const response = await fetchModel(hub, { headers: { range: "bytes=5-9" } });
  assertEquals([response.status, response.headers.get("accept-ranges")], [200, null]);
  assertEquals((await response.bytes()).length, MODEL_BYTES);
});

Deno.test("a file that changes under its address has a new ETag, size and digest", async () => {
  await using hub = await tinyHub();
  const before = await fetchModel(hub, { headers: { range: "bytes=0-9" } });
  await before.body?.cancel();
  const etag = before.headers.get("etag")!;
  hub.faults.add({ kind: "change", content: "other" });
  const after = await fetchModel(hub, { headers: { range: "bytes=10-", "if-range": etag } });
  assertEquals([after.status, await after.text()], [200, "other"]);
  assertNotEquals(after.headers.get("etag"), etag);
  const head = await fetchModel(hub, { method: "HEAD", redirect: "manual" });
  assertEquals(head.headers.get("x-linked-etag"), `"${sha256(new TextEncoder().encode("other"))}"`);
});

Deno.test("a function can choose the fault by what it sees, and publish a wrong digest", async () => {
  const wrong = "0".repeat(64);
  await using hub = await startHub({
    repos: { [REPO]: { files: { "tiny.gguf": { content: MODEL, sha256: wrong } } } },
    fault: (request) => request.headers.has("range") ? { kind: "status", status: 500 } : undefined,
  });
  const ranged = await fetchModel(hub, { headers: { range: "bytes=0-1" }, redirect: "manual" });
  assertEquals(ranged.status, 500);
  const [entry] = await getJson<TreeEntry[]>(`${hub.url}/api/models/${REPO}/tree/main`);
  assertEquals(entry.lfs?.oid, wrong);
});
