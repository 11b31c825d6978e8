/** Several hives, or a hive and `hf`, with one cache: nobody fetches what another fetches, and nobody waits for the dead. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { createHash } from "node:crypto";
import { createLogger } from "../../daemon/log.ts";
import { ConfigSchema } from "../../home/config_schema.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { removeFromCache } from "./cache_removal.ts";
import { lockBlob, tryLockBlob } from "./cache_lock.ts";
import { CACHE_LOCK_POLL_MS } from "./limits.ts";
import { Models } from "./models.ts";
import { PartFile } from "./part_file.ts";
import {
  type Bed,
  BUILTIN_DIR,
  fetchPath,
  filesBelow,
  follow,
  REF,
  REPO,
  startBed,
  tinyGguf,
} from "./models_test_bed.ts";
import type { Timing } from "./timing.ts";

const DIGEST = "ab".repeat(32);
const FOLDER = "models--acme--tiny";
const SIZE = tinyGguf().length;
const IDLE = { inUse: () => false };

/** Far more looks at a lock than any test here needs. */
const MAX_PAUSES = 2_000;

/** A clock whose pauses are as short as can be, and counted. */
function fastTiming(): Timing & { pausesMs: number[] } {
  const pausesMs: number[] = [];
  return {
    pausesMs,
    now: () => performance.now(),
    random: () => 0.5,
    delay(ms, signal) {
      pausesMs.push(ms);
      if (signal?.aborted) return Promise.reject(signal.reason);
      if (pausesMs.length > MAX_PAUSES) return Promise.reject(new Error("Waited in vain"));
      return new Promise((resolve) => setTimeout(resolve));
    },
  };
}

/** A test with a folder for a cache; it fails when a lock stays open. */
function lockTest(name: string, test: (root: string) => Promise<void>): void {
  const fn = async () => {
    const root = await Deno.makeTempDir({ prefix: "rbee-lock-" });
    try {
      await test(root);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  };
  Deno.test({ name, fn, sanitizeResources: true });
}

function waitFor(root: string, options: { signal?: AbortSignal; onWait?: () => void } = {}) {
  const { signal = new AbortController().signal, onWait } = options;
  return lockBlob(DIGEST, { root, repo: REPO, signal, onWait, timing: fastTiming() });
}

lockTest("the lock lies where hf has its own, and its file stays", async (root) => {
  (await waitFor(root))[Symbol.dispose]();
  assertEquals(await filesBelow(root), [`.locks/${FOLDER}/${DIGEST}.lock`]);
  assertEquals((await Deno.stat(`${root}/.locks/${FOLDER}/${DIGEST}.lock`)).size, 0);
});

lockTest("one has it, the other waits and is told so until it is free", async (root) => {
  const first = await waitFor(root);
  assertEquals(await tryLockBlob(DIGEST, { root, folder: FOLDER }), undefined);
  let waits = 0;
  const second = waitFor(root, {
    onWait() {
      if (++waits === 3) first[Symbol.dispose]();
    },
  });
  using _lock = await second;
  // A program that another test starts holds the lock as well, until it runs.
  assert(waits >= 3);
  assertEquals(await tryLockBlob(DIGEST, { root, folder: FOLDER }), undefined);
});

lockTest("other files, and other repositories with the same file, are not waited for", async (root) => {
  using _lock = await waitFor(root);
  using other = await tryLockBlob("cd".repeat(32), { root, folder: FOLDER });
  using elsewhere = await tryLockBlob(DIGEST, { root, folder: "models--acme--other" });
  assert(other !== undefined && elsewhere !== undefined);
});

lockTest("who gives up waiting gets its own reason", async (root) => {
  using _lock = await waitFor(root);
  const giving = new AbortController();
  const reason = new Error("changed my mind");
  const waiting = waitFor(root, { signal: giving.signal, onWait: () => giving.abort(reason) });
  assertEquals(await assertRejects(() => waiting), reason);
});

lockTest("a place where no lock can be made is told, not waited for", async (root) => {
  await Deno.writeTextFile(`${root}/.locks`, "a file where the folder should be");
  await assertRejects(() => waitFor(root));
});

lockTest("a lock whose holder is killed is free", async (root) => {
  const path = join(root, ".locks", FOLDER, `${DIGEST}.lock`);
  await Deno.mkdir(join(root, ".locks", FOLDER), { recursive: true });
  const program = `const file = await Deno.open(${JSON.stringify(path)}, { write: true, create: true });
    await file.lock(true);
    console.log("held");
    await new Promise((resolve) => setTimeout(resolve, 600_000));`;
  await using holder = new Deno.Command(Deno.execPath(), { args: ["eval", program], stdout: "piped" })
    .spawn();
  const reader = holder.stdout.getReader();
  await reader.read();
  let waited = false;
  const waiting = waitFor(root, {
    onWait() {
      if (!waited) holder.kill("SIGKILL");
      waited = true;
    },
  });
  using _lock = await waiting;
  assert(waited);
  await reader.cancel();
});

interface Second extends AsyncDisposable {
  models: Models;
  /** It has found the lock taken at least once. */
  waits(): Promise<void>;
}

/** Another hive, with a home of its own and the cache of `bed`. */
async function secondHive(bed: Bed): Promise<Second> {
  const home = join(bed.path, "second");
  await Deno.mkdir(home);
  const timing = fastTiming();
  const models = new Models({
    ...{ home, timing, builtinDir: BUILTIN_DIR },
    config: ConfigSchema.parse({
      hub: { endpoint: bed.hub.url },
      hive: { models_dir: bed.models.modelsDir },
    }),
    env: new Map([["HOME", home]]),
    log: createLogger({ part: "test", level: "error", format: "json" }),
    limits: { chunkBytes: 500, progressIntervalMs: 0 },
  });
  return {
    models,
    waits: async () => void await eventually("it waits", () => timing.pausesMs.includes(CACHE_LOCK_POLL_MS)),
    [Symbol.asyncDispose]: () => models.close(),
  };
}

function contentRequests(bed: Bed) {
  return bed.hub.requestsFor({ purpose: "content", method: "GET" });
}

/** Two hives, the first of which has 100,000 bytes of the model and waits for more; it holds the lock. */
async function withTwo(
  test: (
    two: { bed: Bed; second: Second; first: { id: string; ended: ReturnType<typeof follow> } },
  ) => Promise<void>,
): Promise<void> {
  await using bed = await startBed();
  await using second = await secondHive(bed);
  bed.hub.faults.add({ kind: "truncate", afterBytes: 100_000 });
  bed.hub.faults.add({ kind: "stall", afterBytes: 0 });
  const { download_id: id } = await bed.models.download(REF);
  const ended = follow(bed.models, id);
  await bed.hub.until((hub) => hub.stalledCount === 1);
  await test({ bed, second, first: { id, ended } });
}

Deno.test("two hives with one cache want the same model: its bytes come once, and both have it", () =>
  withTwo(async ({ bed, second, first }) => {
    const { download_id } = await second.models.download(REF);
    const followed = follow(second.models, download_id);
    await second.waits();
    bed.hub.release();
    const [one, other] = await Promise.all([first.ended, followed]);
    assert(one.last.stage === "complete");
    assertEquals(one.last, other.last);
    assertEquals(await Deno.readFile(one.last.local_path), tinyGguf());
    assertEquals(contentRequests(bed).map(({ sentBytes }) => sentBytes), [100_000, SIZE - 100_000]);
    for (const models of [bed.models, second.models]) assertEquals((await models.list())[0].size_bytes, SIZE);
  }));

Deno.test("who waits shows how far the other one is, and goes on from there", async () => {
  await using bed = await startBed();
  await using second = await secondHive(bed);
  const digest = createHash("sha256").update(tinyGguf()).digest("hex");
  const counts: number[] = [];
  const lock = await tryLockBlob(digest, { root: bed.models.modelsDir, folder: FOLDER });
  const { download_id } = await second.models.download(REF);
  second.models.progress(download_id, (event) => {
    if (event.stage === "downloading") counts.push(event.bytes_downloaded);
  });
  await second.waits();
  const path = `${bed.repoFolder}/blobs/${digest}.rbee-part`;
  const part = await PartFile.open(path, { size: SIZE, chunkBytes: 500 });
  const pieces = [tinyGguf().subarray(0, 100_000)];
  await part.receive(0, () => Promise.resolve(pieces.pop()));
  part[Symbol.dispose]();
  await eventually("it shows the other's bytes", () => counts.at(-1) === 100_000);
  lock![Symbol.dispose]();
  const { last } = await follow(second.models, download_id);
  assert(last.stage === "complete");
  assertEquals(await Deno.readFile(last.local_path), tinyGguf());
  assertEquals(contentRequests(bed).map(({ sentBytes }) => sentBytes), [SIZE - 100_000]);
});

Deno.test("when the one that fetches gives up, the one that waits goes on with what came", () =>
  withTwo(async ({ bed, second, first }) => {
    const { download_id } = await second.models.download(REF);
    const followed = follow(second.models, download_id);
    await second.waits();
    await bed.models.cancel(first.id);
    const { last } = await followed;
    assert(last.stage === "complete");
    assertEquals(await Deno.readFile(last.local_path), tinyGguf());
    assertEquals(contentRequests(bed).map(({ headers }) => headers.get("Range")), [
      `bytes=0-${SIZE - 1}`,
      ...Array(2).fill(`bytes=100000-${SIZE - 1}`),
    ]);
  }));

Deno.test("when the one that waits gives up, the other one does not notice", () =>
  withTwo(async ({ bed, second, first }) => {
    const { download_id } = await second.models.download(REF);
    const followed = follow(second.models, download_id);
    await second.waits();
    await second.models.cancel(download_id);
    const { last } = await followed;
    assertEquals(last.stage === "error" && last.error.code, "REQUEST_CANCELED");
    bed.hub.release();
    assertEquals((await first.ended).last.stage, "complete");
    assertEquals(contentRequests(bed).length, 2);
  }));

Deno.test("a prune by another hive takes nothing from a download, and the next one takes nothing of what it brought", () =>
  withTwo(async ({ bed, second, first }) => {
    const prune = () => second.models.prune({ keep_gb: 0, dry_run: false }, IDLE);
    assertEquals((await prune()).partial_bytes, 0);
    bed.hub.release();
    const { last } = await first.ended;
    assert(last.stage === "complete");
    await prune();
    assertEquals(await Deno.readFile(last.local_path), tinyGguf());
    assertEquals(contentRequests(bed).length, 2);
  }));

Deno.test("another hive's removal of another model of the repository takes nothing from a download", () =>
  withTwo(async ({ bed, second, first }) => {
    const commit = bed.hub.commit(REPO, { "other-Q8_0.gguf": tinyGguf(2) });
    const ref = `${REF}:Q8_0@${commit}`;
    await fetchPath(second.models, ref);
    await second.models.remove(ref, IDLE);
    bed.hub.release();
    const { last } = await first.ended;
    assert(last.stage === "complete");
    assertEquals(await Deno.readFile(last.local_path), tinyGguf());
  }));

Deno.test("a model that another hive removed is fetched again, and one that it still has is not", async () => {
  await using bed = await startBed();
  await using second = await secondHive(bed);
  await fetchPath(bed.models);
  await fetchPath(second.models);
  assertEquals(contentRequests(bed).length, 1);
  await second.models.remove(REF, IDLE);
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
  assertEquals(contentRequests(bed).length, 2);
});

Deno.test("a folder that is empty is removed, but not what somebody begins to fetch at that moment", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  const part = `${bed.repoFolder}/blobs/${DIGEST}.rbee-part`;
  const { remove } = Deno;
  const lastSteps = [bed.repoFolder, `${bed.repoFolder}/blobs`];
  Deno.remove = async (path, options) => {
    if (lastSteps.includes(String(path))) {
      lastSteps.length = 0;
      await Deno.mkdir(`${bed.repoFolder}/blobs`, { recursive: true });
      await Deno.writeTextFile(part, "first bytes");
    }
    await remove(path, options);
  };
  try {
    await removeFromCache([path]);
  } finally {
    Deno.remove = remove;
  }
  assertEquals(await Deno.readTextFile(part), "first bytes");
});
