import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { startHub } from "./hub.ts";
import {
  fetchModel,
  getJson,
  MODEL,
  MODEL_BYTES,
  README,
  REPO,
  sha256,
  tinyHub,
  type TreeEntry,
  wholeModel,
} from "./tiny_hub.ts";

Deno.test("info names the commit and the files, at any revision", async () => {
  await using hub = await tinyHub();
  const first = hub.head(REPO);
  const second = hub.commit(REPO, { "new.gguf": "x", "README.md": null });
  const info = await getJson<Record<string, unknown>>(`${hub.url}/api/models/${REPO}`);
  assertEquals([info.sha, info.private, info.gated], [second, false, false]);
  assertEquals(info.siblings, [{ rfilename: "tiny.gguf" }, { rfilename: "new.gguf" }]);
  const old = await getJson<Record<string, unknown>>(
    `${hub.url}/api/models/${REPO}/revision/${first}?blobs=true`,
  );
  assertEquals(old.sha, first);
  const [model, readme] = old.siblings as Record<string, unknown>[];
  assertEquals((model.lfs as Record<string, unknown>).sha256, sha256(await wholeModel(hub)));
  assertEquals([readme.size, readme.lfs], [README.length, undefined]);
});

Deno.test("tree gives sizes and the sha-256 of large files, in pages", async () => {
  await using hub = await startHub({
    repos: { [REPO]: { files: { "a/b/c.gguf": MODEL, "a/d.txt": "d", "e.txt": "e", "f.txt": "f" } } },
    treePageSize: 2,
  });
  const entries: TreeEntry[] = [];
  let pages = 0;
  let url: string | undefined = `${hub.url}/api/models/${REPO}/tree/main?recursive=true`;
  while (url !== undefined) {
    const response: Response = await fetch(url);
    entries.push(...await response.json());
    url = /<([^>]+)>; rel="next"/.exec(response.headers.get("link") ?? "")?.[1];
    pages++;
  }
  assertEquals(pages, 3);
  assertEquals(entries.map(({ path }) => path), ["a", "a/b", "a/b/c.gguf", "a/d.txt", "e.txt", "f.txt"]);
  assertEquals(entries.map(({ type }) => type)[0], "directory");
  const model = entries[2];
  assertEquals([model.size, model.lfs?.size], [MODEL_BYTES, MODEL_BYTES]);
  assertNotEquals(model.oid, model.lfs?.oid);
  // What `git hash-object` says of a file that holds "e".
  assertEquals(entries[4].oid, "9cbe6ea56f225388ae614c419249bfc6d734cc30");
  const direct = await getJson<TreeEntry[]>(`${hub.url}/api/models/${REPO}/tree/main/a?limit=10`);
  assertEquals(direct.map(({ path }) => path), ["a/b", "a/d.txt"]);
});

Deno.test("a large file is redirected to the other origin with its digest and size", async () => {
  await using hub = await tinyHub();
  const response = await fetchModel(hub, { method: "HEAD", redirect: "manual" });
  assertEquals(response.status, 302);
  const location = response.headers.get("location")!;
  assert(location.startsWith(`${hub.cdnUrl}/`), location);
  assertNotEquals(hub.cdnUrl, hub.url);
  assertEquals(response.headers.get("x-repo-commit"), hub.head(REPO));
  assertEquals(response.headers.get("x-linked-size"), String(MODEL_BYTES));
  const bytes = await (await fetch(location)).bytes();
  assertEquals(bytes.length, MODEL_BYTES);
  assertEquals(response.headers.get("x-linked-etag"), `"${sha256(bytes)}"`);
  assertEquals(hub.requests.map(({ origin, purpose, method }) => [origin, purpose, method]), [
    ["hub", "resolve", "HEAD"],
    ["cdn", "content", "GET"],
  ]);
});

Deno.test("ranges are served by both origins, conditionally too", async () => {
  await using hub = await tinyHub();
  const whole = await wholeModel(hub);
  const part = await fetchModel(hub, { headers: { range: "bytes=1000-1999" } });
  assertEquals([part.status, part.headers.get("content-range")], [206, `bytes 1000-1999/${MODEL_BYTES}`]);
  assertEquals(await part.bytes(), whole.slice(1000, 2000));
  const rest = await fetchModel(hub, { headers: { range: `bytes=${MODEL_BYTES - 5}-` } });
  assertEquals(await rest.bytes(), whole.slice(-5));
  const last = await fetchModel(hub, { headers: { range: "bytes=-5" } });
  assertEquals(await last.bytes(), whole.slice(-5));
  const beyond = await fetchModel(hub, { headers: { range: `bytes=${MODEL_BYTES}-` } });
  assertEquals([beyond.status, beyond.headers.get("content-range")], [416, `bytes */${MODEL_BYTES}`]);
  await beyond.body?.cancel();

  const etag = part.headers.get("etag")!;
  const same = await fetchModel(hub, { headers: { range: "bytes=0-9", "if-range": etag } });
  assertEquals([same.status, (await same.bytes()).length], [206, 10]);
  const other = await fetchModel(hub, { headers: { range: "bytes=0-9", "if-range": '"stale"' } });
  assertEquals([other.status, (await other.bytes()).length], [200, MODEL_BYTES]);

  const readme = await fetch(`${hub.url}/${REPO}/resolve/main/README.md`, {
    headers: { range: "bytes=2-5" },
  });
  assertEquals([readme.status, readme.redirected, await readme.text()], [206, false, "tiny"]);
});

Deno.test("a small file can come by a relative redirect on the same origin", async () => {
  await using hub = await tinyHub({ resolveCache: true });
  const response = await fetch(`${hub.url}/${REPO}/resolve/main/README.md`);
  assertEquals([response.status, response.redirected, await response.text()], [200, true, README]);
  assertMatch(response.url, /\/api\/resolve-cache\/models\/acme\/tiny\/[0-9a-f]{40}\/README\.md$/);
  assertEquals(hub.requests.map(({ purpose, status }) => [purpose, status]), [["resolve", 307], [
    "content",
    200,
  ]]);
});

Deno.test("gated, private and missing repositories answer as at the hub", async () => {
  const files = { "m.gguf": "x" };
  await using hub = await startHub({
    repos: { "a/gated": { files, gated: "manual" }, "a/private": { files, private: true } },
    tokens: { good: ["a/gated", "a/private"], poor: [] },
  });
  const facts = (name: string) => `/api/models/${name}`;
  const file = (name: string) => `/${name}/resolve/main/m.gguf`;
  const cases: [string, string | null, number, string | null][] = [
    [facts("a/gated"), null, 200, null],
    [file("a/gated"), null, 401, "GatedRepo"],
    [file("a/gated"), "unheard-of", 401, "GatedRepo"],
    [file("a/gated"), "poor", 403, "GatedRepo"],
    [file("a/gated"), "good", 302, null],
    [facts("a/private"), null, 401, null],
    [facts("a/private"), "poor", 404, "RepoNotFound"],
    [facts("a/private"), "good", 200, null],
    [file("a/private"), "good", 302, null],
    [facts("a/missing"), null, 401, null],
    [facts("a/missing"), "good", 404, "RepoNotFound"],
  ];
  for (const [target, token, status, code] of cases) {
    const headers: HeadersInit = token === null ? {} : { authorization: `Bearer ${token}` };
    const response = await fetch(`${hub.url}${target}`, { headers, redirect: "manual" });
    assertEquals([target, token, response.status], [target, token, status]);
    assertEquals(response.headers.get("x-error-code"), code);
    const body = await response.text();
    if (status >= 400) assert(body.includes(response.headers.get("x-error-message")!), body);
  }
});

Deno.test("old commits stay reachable, unknown revisions and files are told apart", async () => {
  await using hub = await tinyHub();
  const first = hub.head(REPO);
  hub.commit(REPO, { "README.md": "second" });
  hub.commit(REPO, { "README.md": "branch" }, { branch: "refs/pr/1" });
  const readme = (revision: string) => `${hub.url}/${REPO}/resolve/${revision}/README.md`;
  assertEquals(await (await fetch(readme(first))).text(), README);
  assertEquals(await (await fetch(readme("main"))).text(), "second");
  assertEquals(await (await fetch(readme("refs%2Fpr%2F1"))).text(), "branch");
  const codes: (string | null)[] = [];
  for (const path of ["resolve/nope/README.md", "resolve/main/nope.md"]) {
    const response = await fetch(`${hub.url}/${REPO}/${path}`);
    await response.body?.cancel();
    codes.push(response.headers.get("x-error-code"));
  }
  assertEquals(codes, ["RevisionNotFound", "EntryNotFound"]);
});

Deno.test("every request is recorded, and the storage host refuses the hub's token", async () => {
  await using hub = await tinyHub();
  const headers = { authorization: "Bearer secret" };
  const redirect = await fetchModel(hub, { headers, redirect: "manual" });
  await redirect.body?.cancel();
  const leaked = await fetch(redirect.headers.get("location")!, { headers });
  assertEquals(leaked.status, 400);
  await leaked.body?.cancel();
  assertEquals(hub.requests.map((request) => [request.origin, request.headers.get("authorization")]), [
    ["hub", "Bearer secret"],
    ["cdn", "Bearer secret"],
  ]);
});

Deno.test("signed addresses can expire, and made-up ones never work", async () => {
  await using hub = await tinyHub();
  const redirect = await fetchModel(hub, { method: "HEAD", redirect: "manual" });
  const location = redirect.headers.get("location")!;
  const statusOf = async (url: string) => (await fetch(url, { method: "HEAD" })).status;
  assertEquals(await statusOf(location), 200);
  assertEquals(await statusOf(location.replace("Signature=", "Signature=x")), 403);
  assertEquals(await statusOf(location.replace("/storage/", "/storage/f")), 403);
  hub.expireSignedUrls();
  assertEquals(await statusOf(location), 403);
  assertEquals((await wholeModel(hub)).length, MODEL_BYTES);
});

Deno.test("waiting for a condition ends when told to", async () => {
  await using hub = await tinyHub();
  const abort = new AbortController();
  const waiting = hub.until(() => false, { signal: abort.signal });
  abort.abort(new Error("enough"));
  await assertRejects(() => waiting, Error, "enough");
});

Deno.test("connections are kept, and bad requests get a 400", async () => {
  await using hub = await tinyHub();
  for (let i = 0; i < 3; i++) await getJson(`${hub.url}/api/models/${REPO}`);
  assertEquals(new Set(hub.requests.map(({ connection }) => connection)).size, 1);
  const { hostname, port } = new URL(hub.url);
  for (
    const text of [
      "nonsense\r\n\r\n",
      "GET / HTTP/1.1\r\nno colon\r\n\r\n",
      "PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
    ]
  ) {
    using connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(new TextEncoder().encode(text));
    assertMatch(await new Response(connection.readable).text(), /^HTTP\/1\.1 400 /);
  }
});

Deno.test("bytes on disk and generated bytes are served alike", async () => {
  const path = await Deno.makeTempFile();
  try {
    const prefix = new TextEncoder().encode("GGUF");
    const generated = { generate: 3_000_000, seed: 9, prefix };
    await using hub = await startHub({
      repos: { [REPO]: { files: { "g.gguf": generated, "p.gguf": { path } } } },
    });
    const url = `${hub.url}/${REPO}/resolve/main`;
    const bytes = await (await fetch(`${url}/g.gguf`)).bytes();
    assertEquals([bytes.length, new TextDecoder().decode(bytes.subarray(0, 4))], [3_000_000, "GGUF"]);
    const middle = await fetch(`${url}/g.gguf`, { headers: { range: "bytes=1048570-2097160" } });
    assertEquals(sha256(await middle.bytes()), sha256(bytes.subarray(1_048_570, 2_097_161)));

    await Deno.writeFile(path, bytes.subarray(0, 100_000));
    await using later = await startHub({ repos: { [REPO]: { files: { "p.gguf": { path } } } } });
    const copy = await fetch(`${later.url}/${REPO}/resolve/main/p.gguf`, {
      headers: { range: "bytes=99990-" },
    });
    assertEquals(await copy.bytes(), bytes.slice(99_990, 100_000));
  } finally {
    await Deno.remove(path);
  }
});
