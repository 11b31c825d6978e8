/** Models that come from another hive, and what happens when it fails: the hub is the last to be asked. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { ConfigSchema } from "../../home/config_schema.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import {
  cutShort,
  type FakePeer,
  type FakePeerOptions,
  PEER_COMMIT,
  silence,
  startPeer,
} from "../../tests/helpers/fake_peer.ts";
import type { HubOptions } from "../../tests/helpers/hub.ts";
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
import type { Models } from "./models.ts";
import type { ModelsOptions } from "./models_options.ts";

const SIZE = tinyGguf().length;
const TOKEN = "hf_a-secret-token";

interface PeerBed {
  bed: Bed;
  models: Models;
  peer: FakePeer;
  /** Bytes that the hub sent. */
  hubBytes(): number;
}

interface PeerBedOptions extends Partial<Omit<FakePeerOptions, "path">> {
  hub?: Partial<HubOptions>;
  models?: Partial<ModelsOptions>;
  /** The node has another key than its file says. */
  wrongKey?: boolean;
}

/** A hive with a token for the hub and one other hive, which has the same file as the hub. */
async function withPeer(test: (bed: PeerBed) => Promise<void>, options: PeerBedOptions = {}): Promise<void> {
  const { hub, models: modelsOptions, ...peerOptions } = options;
  await using peer = startPeer({ content: tinyGguf(), ...peerOptions });
  await using bed = await startBed({
    hub: { tokens: { [TOKEN]: [] }, ...hub },
    env: { HF_TOKEN: TOKEN },
    models: modelsOptions,
  });
  const api_key_file = join(bed.path, "peer.key");
  await Deno.writeTextFile(api_key_file, options.wrongKey ? "not-the-key" : peer.key, { mode: 0o600 });
  const config = ConfigSchema.parse({
    hub: { endpoint: bed.hub.url },
    nodes: { mac: { url: peer.url, api_key_file } },
  });
  const models = await bed.restart({ config });
  const hubBytes = () =>
    bed.hub.requestsFor({ purpose: "content" }).reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  await test({ bed, models, peer, hubBytes });
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

Deno.test("a model that another hive has comes from there, and the hub is not asked anything", () =>
  withPeer(async ({ bed, models, peer }) => {
    const { events, last } = await fetchModel(models);
    assert(last.stage === "complete");
    assertEquals(bed.hub.requests, []);
    const bytes = await Deno.readFile(last.local_path);
    assertEquals([sha256(bytes), peer.digest], [sha256(tinyGguf()), sha256(tinyGguf())]);
    assertEquals(await filesBelow(bed.repoFolder), [
      `blobs/${peer.digest}`,
      "refs/main",
      `snapshots/${PEER_COMMIT}/${FILE}`,
    ]);
    assertEquals(await Deno.readTextFile(`${bed.repoFolder}/refs/main`), PEER_COMMIT);
    assertEquals(await Deno.readLink(last.local_path), `../../blobs/${peer.digest}`);
    const [{ sha256: known, revision, size_bytes }] = await models.list();
    assertEquals([known, revision, size_bytes], [peer.digest, PEER_COMMIT, SIZE]);
    assertEquals([events[0].stage, events.at(-2)?.stage], ["downloading", "verifying"]);
  }));

Deno.test("the hub's token stays with the hub, the peer's key with the peer", () =>
  withPeer(async ({ bed, models, peer }) => {
    await fetchPath(models);
    const keysOf = (requests: readonly { headers: Headers }[]) =>
      new Set(requests.map(({ headers }) => headers.get("Authorization")));
    assertEquals(keysOf(bed.hub.requestsFor({ origin: "hub" })), new Set([`Bearer ${TOKEN}`]));
    assertEquals(keysOf(bed.hub.requestsFor({ origin: "cdn" })), new Set([null]));
    assertEquals([keysOf(peer.requests), peer.requests.length], [new Set([`Bearer ${peer.key}`]), 2]);
  }, { blob: () => new Response(null, { status: 404 }) }));

const UNFIT: [string, PeerBedOptions][] = [
  ["has another key", { wrongKey: true }],
  ["does not have it", { offer: () => new Response(null, { status: 404 }) }],
  ["offers a path outside", {
    offer: (honest) => ({ ...honest, files: [{ ...honest.files[0], path: "../../../../x.gguf" }] }),
  }],
  ["offers another repository", { offer: (honest) => ({ ...honest, repo: "acme/other" }) }],
];
for (const [what, options] of UNFIT) {
  Deno.test(`when the other hive ${what}, the model comes from the hub`, () =>
    withPeer(async ({ bed, models, peer, hubBytes }) => {
      assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
      assertEquals([hubBytes(), peer.requests.length, peer.blobRequests().length], [SIZE, 1, 0]);
      assertEquals((await filesBelow(bed.path)).filter((path) => path.endsWith("/x.gguf")), []);
    }, options));
}

Deno.test("when the other hive is gone, the model comes from the hub", () =>
  withPeer(async ({ models, peer, hubBytes }) => {
    await peer[Symbol.asyncDispose]();
    assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
    assertEquals(hubBytes(), SIZE);
  }));

Deno.test("bytes that are not what the other hive said are thrown away, and the hub's taken", () =>
  withPeer(async ({ bed, models, peer, hubBytes }) => {
    const { events, last } = await fetchModel(models);
    assert(last.stage === "complete");
    assertEquals(await Deno.readFile(last.local_path), tinyGguf());
    assertEquals([hubBytes(), peer.blobRequests().length], [SIZE, 2]);
    assertEquals(events.filter(({ stage }) => stage === "retrying").length, 1);
    assertEquals(await filesBelow(`${bed.repoFolder}/blobs`), [peer.digest]);
  }, { blob: ({ bytes, headers }) => new Response(bytes.fill(7, 1000, 1001), { status: 206, headers }) }));

Deno.test("a file that is no model is not kept because another hive has it", () =>
  withPeer(async ({ bed, models, peer, hubBytes }) => {
    assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
    assertEquals([hubBytes(), peer.blobRequests().length], [SIZE, 1]);
    assertEquals(await filesBelow(bed.repoFolder), [
      `blobs/${sha256(tinyGguf())}`,
      "refs/main",
      `snapshots/${bed.hub.head(REPO)}/${FILE}`,
    ]);
  }, { content: new TextEncoder().encode("<html>".repeat(100)) }));

for (const delta of [-1, 1]) {
  Deno.test(`a size that is ${delta} wrong at the other hive ends at the hub`, () =>
    withPeer(async ({ models, hubBytes }) => {
      assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
      assertEquals(hubBytes(), SIZE);
    }, { offer: (honest) => ({ ...honest, files: [{ ...honest.files[0], size: SIZE + delta }] }) }));
}

Deno.test("a size that no disk holds is the other hive's word only: the hub is asked", () =>
  withPeer(async ({ models, peer, hubBytes }) => {
    assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
    assertEquals([hubBytes(), peer.blobRequests().length], [SIZE, 0]);
  }, { offer: (honest) => ({ ...honest, files: [{ ...honest.files[0], size: 10 ** 13 }] }) }));

Deno.test("a disk that is too small is told with or without a hub", () =>
  withPeer(async ({ bed, models, peer }) => {
    assertEquals((await fetchError(models)).code, "INSUFFICIENT_DISK");
    bed.hub.faults.add({ kind: "hang_up" }, { purpose: "info", times: Infinity });
    assertEquals((await fetchError(models)).code, "INSUFFICIENT_DISK");
    assertEquals(peer.blobRequests(), []);
  }, { models: { freeBytes: () => Promise.resolve(SIZE - 1) } }));

/** Cut after so many bytes the first time, then closed. */
function diesAfter(keptBytes: number): FakePeerOptions["blob"] {
  let asked = 0;
  return (part) => asked++ === 0 ? cutShort(part, keptBytes) : new Response(null, { status: 503 });
}

Deno.test("what came before the other hive died is not fetched again", () =>
  withPeer(async ({ bed, models, peer, hubBytes }) => {
    const { events, last } = await fetchModel(models);
    assert(last.stage === "complete");
    assertEquals(await Deno.readFile(last.local_path), tinyGguf());
    assertEquals([peer.blobRequests().length, hubBytes()], [2, SIZE - 100_000]);
    const [first] = bed.hub.requestsFor({ purpose: "content" });
    assertEquals(first.headers.get("Range"), `bytes=100000-${SIZE - 1}`);
    assertEquals(first.headers.get("If-Range"), null);
    const counts = events.flatMap((event) => event.stage === "downloading" ? [event.bytes_downloaded] : []);
    assertEquals(counts, counts.toSorted((a, b) => a - b));
    assertMatch(last.local_path, new RegExp(bed.hub.head(REPO)));
  }, { blob: diesAfter(100_000), models: { limits: { progressIntervalMs: 0 } } }));

Deno.test("a hive that dies again and again is given up before the hub would be", () =>
  withPeer(async ({ bed, models, peer, hubBytes }) => {
    assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
    assertEquals([peer.blobRequests().length, hubBytes()], [2, SIZE - 20_000]);
    assertEquals(bed.pausesMs, [100]);
  }, { blob: (part) => cutShort(part, 10_000) }));

Deno.test("another hive that falls silent is left for the hub", () =>
  withPeer(async ({ models, peer, hubBytes }) => {
    assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
    await eventually("the peer to notice", () => peer.blobRequests().every(({ left }) => left));
    assertEquals([peer.blobRequests().length, hubBytes()], [2, SIZE]);
  }, { blob: (_, request) => silence(request), models: { limits: { stallTimeoutMs: 50 } } }));

Deno.test("what the hub has under another name is another file: nothing of the peer's is glued to it", () =>
  withPeer(async ({ bed, models, hubBytes }) => {
    assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
    assertEquals(hubBytes(), SIZE);
    assertEquals((await bed.models.list()).map(({ revision }) => revision), [bed.hub.head(REPO)]);
  }, { content: tinyGguf(2), blob: diesAfter(100_000) }));

Deno.test("a download that is canceled while another hive brings it does not go on at the hub", async () => {
  const asked = Promise.withResolvers<void>();
  const blob: FakePeerOptions["blob"] = (_, request) => {
    asked.resolve();
    return silence(request);
  };
  await withPeer(async ({ bed, models }) => {
    const { download_id } = await models.download(REF);
    const followed = follow(models, download_id);
    await asked.promise;
    await models.cancel(download_id);
    const { last } = await followed;
    assertEquals(last.stage === "error" && last.error.code, "REQUEST_CANCELED");
    assertEquals(bed.hub.requests, []);
  }, { blob });
});

Deno.test("two references to the same file at once are one transfer from the other hive, also when it dies", async () => {
  for (const dies of [false, true]) {
    const release = Promise.withResolvers<void>();
    const blob: FakePeerOptions["blob"] = async ({ bytes, headers }) => {
      await release.promise;
      return dies ? new Response(null, { status: 404 }) : new Response(bytes, { status: 206, headers });
    };
    await withPeer(async ({ models, peer, hubBytes }) => {
      const answers = [await models.download(REF), await models.download(`${REF}:Q4_K_M`)];
      const followers = answers.map(({ download_id }) => follow(models, download_id));
      release.resolve();
      for (const { last } of await Promise.all(followers)) assertEquals(last.stage, "complete");
      assertEquals(hubBytes(), dies ? SIZE : 0);
      assertEquals(peer.blobRequests().length, 1);
      assertEquals((await models.list()).length, 2);
    }, { blob });
  }
});

Deno.test("a peer without the model costs a download from the hub no event", () =>
  withPeer(async ({ models }) => {
    const { events } = await fetchModel(models);
    assertEquals(events.filter(({ stage }) => stage === "retrying"), []);
  }, { offer: () => new Response(null, { status: 503, headers: { "Retry-After": "9" } }) }));
