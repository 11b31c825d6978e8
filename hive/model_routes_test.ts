/** What the hive says and does about the models it has: use, verification, pruning, over HTTP. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import type { ListedModel, VerifyEvent } from "../protocol/hive_schemas.ts";
import { startHub } from "../tests/helpers/hub.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { STORIES } from "../tests/helpers/test_models.ts";
import { type TestHive, testHive } from "../tests/helpers/test_hive.ts";

const REF = "hf:acme/bee:Q8_0";
const STORIES_BYTES = Deno.statSync(STORIES).size;

/** A hive that has pulled {@linkcode REF}. */
async function withModel(test: (hive: TestHive) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using hub = await startHub({
    repos: { "acme/bee": { files: { "bee-Q8_0.gguf": { path: STORIES } } } },
  });
  await using hive = await testHive({ home: home.rbeeHome, hub: hub.url });
  const answer = await hive.client.download(REF);
  if (!("local_path" in answer)) {
    await Array.fromAsync((await hive.client.downloadProgress(answer.download_id)).events);
  }
  await test(hive);
}

async function rowOf(hive: TestHive): Promise<ListedModel> {
  return (await hive.client.models()).models.find(({ reference }) => reference === REF)!;
}

async function verify(hive: TestHive): Promise<VerifyEvent[]> {
  return await Array.fromAsync((await hive.client.verifyModel(REF)).events);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => work, RbeeError)).code;
}

Deno.test("a model is in use from its worker's start to that worker's end, and both are remembered", () =>
  withModel(async (hive) => {
    const before = await rowOf(hive);
    assertEquals([before.in_use, before.last_used_at_unix], [false, null]);
    const { worker_id } = await hive.spawn({ model_ref: REF });
    await hive.until(worker_id, "idle");
    const during = await rowOf(hive);
    assert(during.in_use && during.last_used_at_unix !== null);
    assertEquals(await codeOf(hive.client.removeModel(REF)), "MODEL_IN_USE");
    assertEquals((await hive.client.pruneModels({ keep_gb: 0 })).removed, []);

    await hive.client.shutdownWorker(worker_id);
    const after = await rowOf(hive);
    assert(!after.in_use && after.last_used_at_unix! >= during.last_used_at_unix!);
    await hive.client.removeModel(REF);
    assertEquals(await rowOf(hive), undefined);
  }));

Deno.test("a model is in use as soon as a spawn has chosen it, before there is a worker", () =>
  withModel(async (hive) => {
    const { local_path } = await rowOf(hive);
    const spawning = hive.spawn({ model_ref: REF });
    await eventually(
      "the spawn has found the model",
      () => hive.workers.filesInUse.has({ local_path, files: "" }),
    );
    assertEquals(await codeOf(hive.client.removeModel(REF)), "MODEL_IN_USE");
    await hive.client.shutdownWorker((await spawning).worker_id);
    await hive.client.removeModel(REF);
  }));

Deno.test("a spawn that is refused leaves nothing in use", () =>
  withModel(async (hive) => {
    assertEquals(await codeOf(hive.spawn({ model_ref: REF, device: 200 })), "DEVICE_NOT_FOUND");
    const { in_use, last_used_at_unix } = await rowOf(hive);
    assertEquals([in_use, last_used_at_unix], [false, null]);
  }));

Deno.test("a verification is followed to its end, and a damaged file is its last event", () =>
  withModel(async (hive) => {
    const events = await verify(hive);
    assertEquals(events[0], { stage: "verifying", bytes_done: 0, bytes_total: STORIES_BYTES });
    const { local_path, sha256, verified_at_unix } = await rowOf(hive);
    const last = events.at(-1)!;
    assert(last.stage === "verified" && last.sha256 === sha256 && verified_at_unix !== null);
    assertEquals(last.files.map(({ path }) => path), [local_path]);

    const bytes = Deno.readFileSync(local_path);
    bytes[bytes.length - 1] ^= 1;
    Deno.writeFileSync(local_path, bytes);
    const error = (await verify(hive)).at(-1)!;
    assert(error.stage === "error" && error.error.code === "CHECKSUM_MISMATCH");
    assertEquals(error.error.details.path, local_path);
  }));

Deno.test("what is not here is refused before a stream is opened", () =>
  withModel(async (hive) => {
    assertEquals(await codeOf(hive.client.verifyModel("hf:acme/wasp:Q8_0")), "MODEL_NOT_FOUND");
    assertEquals(await codeOf(hive.client.verifyModel("wasp")), "INVALID_REQUEST");
    assertEquals(await codeOf(hive.client.pruneModels({ keep_gb: -1 })), "INVALID_REQUEST");
  }));

Deno.test("a prune says what it would remove, and removes just that", () =>
  withModel(async (hive) => {
    const dry = await hive.client.pruneModels({ keep_gb: 0, dry_run: true });
    assertEquals(dry, {
      removed: [{ reference: REF, also: [], size_bytes: STORIES_BYTES, last_used_at_unix: null }],
      ...{ kept_bytes: 0, freed_bytes: STORIES_BYTES, partial_bytes: 0 },
    });
    assert(await rowOf(hive));
    assertEquals(await hive.client.pruneModels({ keep_gb: 0 }), dry);
    assertEquals(await rowOf(hive), undefined);
  }));
