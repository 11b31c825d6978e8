/** The cache is everybody's: Hugging Face's own library reads what rbee wrote, and rbee what that wrote. */
import { assert, assertEquals } from "@std/assert";
import {
  type CachedRepoInfo,
  downloadFileToCacheDir,
  scanCacheDir,
  snapshotDownload,
} from "@huggingface/hub";
import { createHash } from "node:crypto";
import type { Hub } from "../../tests/helpers/hub.ts";
import {
  type Bed,
  fetchPath,
  FILE,
  filesBelow,
  follow,
  REF,
  REPO,
  startBed,
  tinyGguf,
} from "./models_test_bed.ts";

const SIZE = tinyGguf().length;
const DIGEST = createHash("sha256").update(tinyGguf()).digest("hex");
const SMALL = "small-Q8_0.gguf";
const PARTS = [1, 2].map((part) => `split-Q4_0-0000${part}-of-00002.gguf`);
const REPOS = {
  [REPO]: {
    files: { [FILE]: tinyGguf(), [SMALL]: { content: tinyGguf(2), lfs: false }, "README.md": "# tiny\n" },
  },
  "acme/split": { files: Object.fromEntries(PARTS.map((path, i) => [path, tinyGguf(10 + i)])) },
};

/** The stand-in reads no bodies: what `paths-info` is asked by POST, it is asked for its list of files. */
function fetchFrom(hub: Hub): typeof fetch {
  return async (input, init) => {
    const url = String(input instanceof Request ? input.url : input);
    if (init?.method !== "POST") return await fetch(input, init);
    const { paths } = JSON.parse(String(init.body));
    const listed = await fetch(`${url.replace("/paths-info/", "/tree/")}?recursive=true`);
    const files: { path: string }[] = await listed.json();
    assert(url.startsWith(`${hub.url}/api/models/`) && files.length > 0);
    return Response.json(files.filter(({ path }) => paths.includes(path)));
  };
}

/** What the library needs to know to use the bed's hub and cache. */
function libraryAt(bed: Bed) {
  return { hubUrl: bed.hub.url, cacheDir: bed.models.modelsDir, fetch: fetchFrom(bed.hub) };
}

/** The library tells the console of every file. */
async function quietly<T>(work: () => Promise<T>): Promise<T> {
  const { debug } = console;
  console.debug = () => {};
  try {
    return await work();
  } finally {
    console.debug = debug;
  }
}

/** What the library finds in the cache: by repository, by revision. */
async function scan(bed: Bed) {
  const { repos, size, warnings } = await scanCacheDir(bed.models.modelsDir);
  assertEquals(warnings, []);
  return { size, repos: Object.fromEntries(repos.map((repo) => [repo.id.name, described(repo)])) };
}

function described({ id, size, filesCount, revisions }: CachedRepoInfo) {
  assertEquals(id.type, "model");
  return {
    ...{ size, filesCount },
    revisions: Object.fromEntries(revisions.map(({ commitOid, refs, files }) => [commitOid, {
      refs: refs.toSorted(),
      files: files.map(({ path, blob }) => [path.slice(path.lastIndexOf("/") + 1), blob.size]).toSorted(),
    }])),
  };
}

/** Begins to fetch what `ref` means, and cancels it after 100,000 bytes. */
async function breakOff(bed: Bed, ref: string): Promise<void> {
  bed.hub.faults.add({ kind: "truncate", afterBytes: 100_000 });
  bed.hub.faults.add({ kind: "stall", afterBytes: 0 });
  const { download_id } = await bed.models.download(ref);
  const ended = follow(bed.models, download_id);
  await bed.hub.until((hub) => hub.stalledCount === 1);
  await bed.models.cancel(download_id);
  await ended;
}

Deno.test("what rbee fetched is in order for others: files, sizes, revisions, shared blobs, branches", async () => {
  await using bed = await startBed({ hub: { repos: REPOS } });
  const first = bed.hub.head(REPO);
  await fetchPath(bed.models);
  await fetchPath(bed.models, `${REF}:Q8_0`);
  const second = bed.hub.commit(REPO, { "README.md": "# new\n" }, { branch: "next" });
  await fetchPath(bed.models, `${REF}@next`);
  await fetchPath(bed.models, "hf:acme/split");
  assertEquals(await scan(bed), {
    size: 4 * SIZE,
    repos: {
      [REPO]: {
        ...{ size: 2 * SIZE, filesCount: 2 },
        revisions: {
          [first]: { refs: ["main"], files: [[SMALL, SIZE], [FILE, SIZE]] },
          [second]: { refs: ["next"], files: [[FILE, SIZE]] },
        },
      },
      "acme/split": {
        ...{ size: 2 * SIZE, filesCount: 2 },
        revisions: {
          [bed.hub.head("acme/split")]: { refs: ["main"], files: PARTS.map((path) => [path, SIZE]) },
        },
      },
    },
  });

  await bed.models.remove(`${REF}@next`, { inUse: () => false });
  await bed.models.remove("hf:acme/split", { inUse: () => false });
  const { size, repos } = await scan(bed);
  assertEquals([size, Object.keys(repos), Object.keys(repos[REPO].revisions)], [2 * SIZE, [REPO], [first]]);
});

Deno.test("what was fetched by its commit alone is in order too", async () => {
  await using bed = await startBed();
  const commit = bed.hub.head(REPO);
  await fetchPath(bed.models, `${REF}@${commit}`);
  assertEquals((await scan(bed)).repos[REPO].revisions, { [commit]: { refs: [], files: [[FILE, SIZE]] } });
});

Deno.test("unfinished files are nobody's: beside others, alone in their repository, and cleared away", async () => {
  await using bed = await startBed({ hub: { repos: REPOS } });
  await fetchPath(bed.models, `${REF}:Q8_0`);
  await breakOff(bed, REF);
  await breakOff(bed, "hf:acme/split");
  const unfinished = (await filesBelow(bed.models.modelsDir)).filter((path) => path.endsWith(".rbee-part"));
  assertEquals(unfinished.length, 2);
  const { size, repos } = await scan(bed);
  assertEquals([size, repos[REPO].filesCount, repos["acme/split"].filesCount], [SIZE, 1, 0]);
  await bed.models.prune({ keep_gb: 1, dry_run: false }, { inUse: () => false });
  assertEquals(Object.keys((await scan(bed)).repos), [REPO]);
});

Deno.test("a download that brought nothing leaves the cache in order", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "status", status: 404 }, { purpose: "resolve" });
  await fetchPath(bed.models).catch(() => {});
  assertEquals((await scan(bed)).size, 0);
});

Deno.test("what the library fetched is used without a download", async () => {
  await using bed = await startBed({ hub: { repos: REPOS } });
  await quietly(() => snapshotDownload({ repo: REPO, ...libraryAt(bed) }));
  const asked = bed.hub.requests.length;
  const commit = bed.hub.head(REPO);
  const snapshot = `${bed.repoFolder}/snapshots/${commit}`;
  for (const [ref, file] of [[REF, FILE], [`${REF}:Q8_0`, SMALL], [`${REF}@${commit}`, FILE]]) {
    const answer = await bed.models.download(ref);
    assertEquals(answer, { download_id: "cached", local_path: `${snapshot}/${file}` });
    const model = await bed.models.require(ref);
    await bed.models.verify(model, { signal: new AbortController().signal, emit: () => {} });
    assertEquals((await bed.models.offer(ref)).files.map(({ path }) => path), [file]);
  }
  assertEquals(bed.hub.requests.length, asked);

  await bed.models.remove(REF, { inUse: () => false });
  const { files } = (await scan(bed)).repos[REPO].revisions[commit];
  // The other name for it went along.
  assertEquals(files.map(([name]) => name), ["README.md", SMALL]);
});

Deno.test("a single file of the library's is used, and what is missing of a split model is fetched", async () => {
  await using bed = await startBed({ hub: { repos: REPOS } });
  const revision = bed.hub.head("acme/split");
  const fetchPart = (path: string) =>
    quietly(() => downloadFileToCacheDir({ repo: "acme/split", path, revision, ...libraryAt(bed) }));
  const first = await fetchPart(PARTS[0]);
  const before = bed.hub.requests.length;
  assertEquals(await fetchPath(bed.models, `hf:acme/split@${revision}`), first);
  const asked = bed.hub.requests.slice(before).filter(({ purpose }) => purpose === "content");
  assertEquals(asked.map(({ path, sentBytes }) => [path, sentBytes]), [[PARTS[1], SIZE]]);
});

Deno.test("neither goes on with what the other left unfinished", async () => {
  await using bed = await startBed();
  await breakOff(bed, REF);
  const [blobs, revision] = [`${bed.repoFolder}/blobs`, bed.hub.head(REPO)];
  const part = await Deno.readFile(`${blobs}/${DIGEST}.rbee-part`);
  const path = await quietly(() =>
    downloadFileToCacheDir({ repo: REPO, path: FILE, revision, ...libraryAt(bed) })
  );
  assertEquals(await Deno.readFile(path), tinyGguf());
  assertEquals(await Deno.readFile(`${blobs}/${DIGEST}.rbee-part`), part);

  await Deno.remove(path);
  await Deno.rename(`${blobs}/${DIGEST}`, `${blobs}/${DIGEST}.incomplete`);
  await Deno.truncate(`${blobs}/${DIGEST}.incomplete`, 1000);
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
  assertEquals((await Deno.stat(`${blobs}/${DIGEST}.incomplete`)).size, 1000);
});

Deno.test("a file that rbee has is not fetched by the library", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  const asked = bed.hub.requestsFor({ purpose: "content" }).length;
  const revision = bed.hub.head(REPO);
  const found = await quietly(() =>
    downloadFileToCacheDir({ repo: REPO, path: FILE, revision, ...libraryAt(bed) })
  );
  const next = bed.hub.commit(REPO, { "README.md": "# new\n" });
  await quietly(() => downloadFileToCacheDir({ repo: REPO, path: FILE, revision: next, ...libraryAt(bed) }));
  assertEquals([found, bed.hub.requestsFor({ purpose: "content" }).length], [path, asked]);
});
