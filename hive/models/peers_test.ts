/** Which other hives are asked for a model, and what of their answers is believed. */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import type { Logger } from "../../daemon/log.ts";
import { ConfigSchema } from "../../home/config_schema.ts";
import type { ModelOffer } from "../../protocol/hive_schemas.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { type FakePeer, type FakePeerOptions, silence, startPeer } from "../../tests/helpers/fake_peer.ts";
import { keptLog } from "../../tests/helpers/log_lines.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { MAX_HUB_ANSWER_BYTES, MODEL_LIMITS, PEER_ANSWER_TIMEOUT_MS } from "./limits.ts";
import type { HubRef } from "./model_files.ts";
import { askPeers, configuredPeers, type Peer } from "./peers.ts";

const REF = "hf:acme/tiny";
const CONTENT = new TextEncoder().encode("a model");
const OTHER_COMMIT = "0123456789abcdef0123456789abcdef01234567";

function start(options: Omit<FakePeerOptions, "content"> = {}): FakePeer {
  return startPeer({ content: CONTENT, ...options });
}

function peerOf({ url, key }: Pick<FakePeer, "url" | "key">): Peer {
  return { name: "mac", url, key, keySource: "mac.key" };
}

async function ask(
  peers: readonly Pick<FakePeer, "url" | "key">[],
  options: { ref?: string; signal?: AbortSignal; log?: Logger } = {},
) {
  const { ref = REF, log = keptLog().log, signal = new AbortController().signal } = options;
  return await askPeers(parseModelRef(ref) as HubRef, peers.map(peerOf), {
    ...{ fetch, log, signal, limits: MODEL_LIMITS },
  });
}

/** Runs `test` with `limit` in place of every time limit; the times that were asked for. */
async function withTimeLimit(limit: AbortSignal, test: () => Promise<void>): Promise<number[]> {
  const { timeout } = AbortSignal;
  const asked: number[] = [];
  AbortSignal.timeout = (ms) => {
    asked.push(ms);
    return limit;
  };
  try {
    await test();
  } finally {
    AbortSignal.timeout = timeout;
  }
  return asked;
}

/** Not when some later limit passes. */
async function soon<T>(asking: Promise<T>): Promise<T> {
  let over = false;
  asking.catch(() => {}).finally(() => over = true);
  await eventually("the asking is over", () => over);
  return await asking;
}

Deno.test("a node is asked with the key of its file, and the hive's own key leaves its machine for none", async () => {
  await using home = await tempHome();
  const file = join(home.path, "mac.key");
  await Deno.writeTextFile(file, "the-key-of-mac\n", { mode: 0o600 });
  const nodes = {
    mac: { url: "http://mac:9200/some/path", api_key_file: file },
    pi: { url: "https://pi" },
    here: { url: "http://127.0.0.1:9300" },
  };
  const { log, lines } = keptLog();
  const peers = async (change: Record<string, unknown> = {}) =>
    await configuredPeers(ConfigSchema.parse({ nodes, ...change }), { home: home.rbeeHome, log });
  const mac = { name: "mac", url: "http://mac:9200", key: "the-key-of-mac", keySource: file };
  const here = { name: "here", url: "http://127.0.0.1:9300" };

  assertEquals(await peers(), [mac]);
  const configured = await peers({ api_key: "the-configured-key" });
  assertEquals(configured, [mac, { ...here, key: "the-configured-key", keySource: "own key" }]);
  assertEquals(lines[0].setting, "nodes.pi.api_key_file");
  await Deno.writeTextFile(join(home.rbeeHome, "api_key"), "the-local-key\n", { mode: 0o600 });
  assertEquals((await peers())[1].key, "the-local-key");
});

Deno.test("a node whose key cannot be read is left out and named, the others are not", async () => {
  await using home = await tempHome();
  const keyFile = async (name: string, mode: number) => {
    const path = join(home.path, name);
    await Deno.writeTextFile(path, "some-long-key\n", { mode });
    return path;
  };
  const nodes = {
    gone: { url: "http://gone", api_key_file: join(home.path, "nonesuch") },
    open: { url: "http://open", api_key_file: await keyFile("open", 0o644) },
    good: { url: "http://good", api_key_file: await keyFile("good", 0o600) },
  };
  const { log, lines } = keptLog();
  const peers = await configuredPeers(ConfigSchema.parse({ nodes }), { home: home.rbeeHome, log });
  assertEquals(peers.map(({ name }) => name), ["good"]);
  assertEquals(lines.map(({ level, node }) => [level, node]), [["warn", "gone"], ["warn", "open"]]);
});

Deno.test("all are asked at once; the first that has the model is taken, the others are left", async () => {
  await using slow = start({ offer: (_, request) => silence(request) });
  await using without = start({ offer: () => new Response(null, { status: 404 }) });
  await using having = start();
  // They would be left anyway then.
  const limitsMs = await withTimeLimit(new AbortController().signal, async () => {
    const found = await ask([slow, without, having]);
    assertEquals([found?.peer.url, found?.model.repo], [having.url, "acme/tiny"]);
    await eventually("the slow one is left", () => slow.requests[0].left);
  });
  assertEquals(limitsMs, [PEER_ANSWER_TIMEOUT_MS]);
  for (const peer of [slow, without, having]) {
    assertEquals(peer.requests.map(({ target, headers }) => [target, headers.get("Authorization")]), [
      [`/v1/models/offer?model_ref=${encodeURIComponent(REF)}`, `Bearer ${peer.key}`],
    ]);
  }
});

Deno.test("a peer that says nothing is not waited for beyond the limit", async () => {
  await using silent = start({ offer: (_, request) => silence(request) });
  const limit = new AbortController();
  await withTimeLimit(limit.signal, async () => {
    const asking = ask([silent]);
    await eventually("the request has come", () => silent.requests.length === 1);
    limit.abort();
    assertEquals(await soon(asking), undefined);
  });
});

Deno.test("a caller that gives up ends the asking with its reason", async () => {
  await using silent = start({ offer: (_, request) => silence(request) });
  const giving = new AbortController();
  await withTimeLimit(new AbortController().signal, async () => {
    const asking = ask([silent], { signal: giving.signal });
    await eventually("the request has come", () => silent.requests.length === 1);
    const reason = new Error("changed my mind");
    giving.abort(reason);
    assertEquals(await assertRejects(() => soon(asking)), reason);
    await eventually("the peer is left", () => silent.requests[0].left);
  });
});

const NO_ANSWERS: [string, () => Response][] = [
  ["does not have it", () => new Response(null, { status: 404 })],
  ["is broken", () => new Response(null, { status: 500 })],
  ["is too busy", () => new Response(null, { status: 503, headers: { "Retry-After": "1" } })],
  ["answers with a page", () => new Response("<html>")],
  ["answers with half a document", () => new Response('{"repo":')],
  ["answers with nothing", () => new Response()],
  ["answers without an end", () => {
    const piece = new Uint8Array(MAX_HUB_ANSWER_BYTES / 8).fill(" ".charCodeAt(0));
    return new Response(new ReadableStream({ pull: (controller) => controller.enqueue(piece) }));
  }],
  [
    "sends the caller round in circles",
    () => new Response(null, { status: 307, headers: { Location: "?" } }),
  ],
];
for (const [what, offer] of NO_ANSWERS) {
  Deno.test(`a peer that ${what} has nothing, and the next one is taken`, async () => {
    await using bad = start({ offer });
    assertEquals(await ask([bad]), undefined);
    await using good = start();
    assertEquals((await ask([bad, good]))?.peer.url, good.url);
  });
}

Deno.test("a dead peer and one with another key have nothing, and it is told where that key stands", async () => {
  await using locked = start();
  const dead = start();
  await dead[Symbol.asyncDispose]();
  const { log, lines } = keptLog();
  assertEquals(await ask([dead, { url: locked.url, key: "not-the-key" }], { log }), undefined);
  assertEquals(locked.requests.length, 1);
  assertEquals(lines.map(({ node, key_source }) => [node, key_source]), [["mac", "mac.key"]]);
  assertEquals(await ask([]), undefined);
});

type Lie = (honest: ModelOffer) => object;
const fileWith = (change: object): Lie => (honest) => ({
  ...honest,
  files: [{ ...honest.files[0], ...change }],
});
const CLIMBING = [
  ...["../../x", "/etc/passwd", "a/../../b", "a//b", ".", "", "a\\b", "C:x", "a\0b", "x".repeat(600)],
];
const LIES: Record<string, Lie[]> = {
  "a path that is none": CLIMBING.map((folder) => fileWith({ path: `${folder}/tiny-Q4_K_M.gguf` })),
  "an absurd size": [0, -1, 1.5, 2 ** 46 + 1, 1e300, "5", null].map((size) => fileWith({ size })),
  "a digest that is none": ["../../x", "AB".repeat(32), "ab".repeat(31), "ab".repeat(33), "", 7].map((hex) =>
    fileWith({ digest: { algorithm: "sha256", hex } })
  ),
  "another repository": ["acme/other", "../..", ""].map((repo): Lie => (honest) => ({ ...honest, repo })),
  "another revision": ["next", OTHER_COMMIT, "../x"].map((revision): Lie => (honest) => ({
    ...honest,
    revision,
  })),
  "a commit that is none": ["main", "../../../../x", ""].map((commit): Lie => (honest) => ({
    ...honest,
    commit,
  })),
  "no files, or more than any model has": [0, 1_001].map((count): Lie => (honest) => ({
    ...honest,
    files: Array(count).fill(honest.files[0]),
  })),
  "half a model": [fileWith({ path: "tiny-Q4_K_M-00001-of-00002.gguf" })],
  "no model at all": [fileWith({ path: "README.md" }), () => ({}), (honest) => [honest]],
};
for (const [what, lies] of Object.entries(LIES)) {
  Deno.test(`an offer of ${what} is not taken, and its peer named`, async () => {
    for (const [i, lie] of lies.entries()) {
      await using liar = start({ offer: lie });
      const { log, lines } = keptLog();
      assertEquals(await ask([liar], { log }), undefined, `lie ${i}`);
      const expected = { level: "warn", node: "mac", model_ref: REF };
      assertEquals(lines.map(({ level, node, model_ref }) => ({ level, node, model_ref })), [expected]);
    }
  });
}

Deno.test("another quantisation than the one that was asked for is not taken for it", async () => {
  await using peer = start();
  assertEquals(await ask([peer], { ref: `${REF}:Q8_0` }), undefined);
  assertEquals((await ask([peer], { ref: `${REF}:Q4_K_M` }))?.model.files.length, 1);
});

Deno.test("the parts of a model are in order, in whatever order a peer lists them", async () => {
  const paths = [2, 3, 1].map((part) => `tiny-Q8_0-0000${part}-of-00003.gguf`);
  await using peer = start({
    offer: (honest) => ({ ...honest, files: paths.map((path) => ({ ...honest.files[0], path })) }),
  });
  assertEquals((await ask([peer]))?.model.files.map(({ path }) => path), paths.toSorted());
});

Deno.test("another commit than the one that was asked for is not taken for it", async () => {
  await using liar = start({ offer: (honest) => ({ ...honest, revision: OTHER_COMMIT }) });
  assertEquals(await ask([liar], { ref: `${REF}@${OTHER_COMMIT}` }), undefined);
  await using honest = start({
    offer: (offer) => ({ ...offer, revision: OTHER_COMMIT, commit: OTHER_COMMIT }),
  });
  assertEquals((await ask([honest], { ref: `${REF}@${OTHER_COMMIT}` }))?.model.commit, OTHER_COMMIT);
});

Deno.test("what a later peer adds to an offer is no obstacle", async () => {
  await using newer = start({ offer: (honest) => ({ ...honest, licence: "MIT" }) });
  assertEquals((await ask([newer]))?.peer.url, newer.url);
});

for (const what of ["offer", "blob"] as const) {
  Deno.test(`the key does not go along when the ${what} is elsewhere`, async () => {
    const heard: (string | null)[] = [];
    await using elsewhere = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      heard.push(request.headers.get("Authorization"));
      return new Response(null, { status: 404 });
    });
    const Location = `http://127.0.0.1:${elsewhere.addr.port}/`;
    await using peer = start({ [what]: () => new Response(null, { status: 302, headers: { Location } }) });
    const found = await ask([peer]);
    const signal = new AbortController().signal;
    const file = { path: "tiny-Q4_K_M.gguf", digest: { hex: peer.digest } };
    if (what === "offer") assertEquals(found, undefined);
    else await assertRejects(() => found!.sourceOf(file).open({ start: 0, end: 5 }, { signal }));
    assertEquals(heard, [null]);
  });
}

Deno.test("a part of a file is asked for by digest, and by validator once that is known", async () => {
  await using peer = start();
  const source = (await ask([peer]))!.sourceOf({ path: "tiny-Q4_K_M.gguf", digest: { hex: peer.digest } });
  const { signal } = new AbortController();
  const validator = { origin: peer.url, etag: '"abc"' };
  for (const options of [{ signal }, { signal, validator }]) {
    using answer = await source.open({ start: 2, end: 5 }, options);
    assertEquals([answer.response.status, await answer.response.text()], [206, "mod"]);
  }
  assertEquals(
    peer.blobRequests().map(({ target, headers }) => [target, headers.get("Range"), headers.get("If-Range")]),
    [[`/v1/models/blobs/${peer.digest}`, "bytes=2-4", null], [
      `/v1/models/blobs/${peer.digest}`,
      "bytes=2-4",
      '"abc"',
    ]],
  );
});
