import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { RbeeError } from "../../protocol/errors.ts";
import type { VerifyEvent } from "../../protocol/hive_schemas.ts";
import type { Models } from "./models.ts";
import { fetchPath, REF, REPO, smallestGguf, startBed, tinyGguf } from "./models_test_bed.ts";

const IDLE = { inUse: () => false };

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function verify(models: Models, ref: string, signal = new AbortController().signal) {
  const events: VerifyEvent[] = [];
  const verified = await models.verify(await models.require(ref), {
    signal,
    emit: (event) => events.push(event),
  });
  return { events, verified };
}

async function mismatchOf(models: Models, ref: string): Promise<RbeeError> {
  const error = await assertRejects(() => verify(models, ref), RbeeError);
  assertEquals(error.code, "CHECKSUM_MISMATCH");
  return error;
}

/** Other bytes of the same number, as a bad disk would leave them. */
function damage(path: string): void {
  const bytes = Deno.readFileSync(path);
  bytes[bytes.length - 1] ^= 1;
  Deno.writeFileSync(path, bytes);
}

Deno.test("a model from a hub has the digest that the hub said, and the catalog notes when that was seen", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  assertEquals((await bed.models.list())[0].verified_at_unix, null);
  const { events, verified } = await verify(bed.models, REF);
  const size = tinyGguf().length;
  assertEquals(events[0], { stage: "verifying", bytes_done: 0, bytes_total: size });
  const digest = sha256(tinyGguf());
  const file = { path, size_bytes: size, algorithm: "sha256", digest, recorded: false } as const;
  assertEquals(verified, { stage: "verified", sha256: digest, files: [file] });
  assert((await bed.models.list())[0].verified_at_unix! > 0);
});

Deno.test("a damaged model is told with what it is and what it should be; removed and pulled it is well", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  damage(path);
  const error = await mismatchOf(bed.models, REF);
  const actual = sha256(Deno.readFileSync(path));
  assertEquals(error.details, { path, expected: sha256(tinyGguf()), actual });
  assertStringIncludes(error.message, "Remove the model and pull it again.");
  assertEquals((await bed.models.list())[0].verified_at_unix, null);
  await bed.models.remove(REF, IDLE);
  await fetchPath(bed.models);
  await verify(bed.models, REF);
});

Deno.test("a damaged blob that two commits share: both are named, and without them it is fetched anew", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  const next = `${REF}@${bed.hub.commit(REPO, { "README.md": "# new\n" })}`;
  await fetchPath(bed.models, next);
  damage(path);
  assertStringIncludes(
    (await mismatchOf(bed.models, next)).message,
    `share the file (${REF}), and pull it again`,
  );
  for (const ref of [next, REF]) await bed.models.remove(ref, IDLE);
  await fetchPath(bed.models, next);
  await verify(bed.models, next);
});

Deno.test("a file that the hub keeps in git is verified by git's digest", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  const blobs = `${bed.repoFolder}/blobs`;
  const bytes = tinyGguf();
  const gitSha1 = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
  await Deno.rename(Deno.realPathSync(path), `${blobs}/${gitSha1}`);
  await Deno.remove(path);
  await Deno.symlink(`../../blobs/${gitSha1}`, path);
  const { verified } = await verify(bed.models, REF);
  assertEquals([verified.sha256, verified.files[0].algorithm, verified.files[0].digest], [
    null,
    "git-sha1",
    gitSha1,
  ]);
});

Deno.test("every part of a split model is verified, each by its own digest", async () => {
  const files = Object.fromEntries(
    [1, 2].map((part) => [`m-Q4_0-0000${part}-of-00002.gguf`, tinyGguf(part)]),
  );
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } } } });
  const path = await fetchPath(bed.models);
  const { verified } = await verify(bed.models, REF);
  assertEquals([verified.sha256, verified.files.map(({ digest }) => digest)], [
    null,
    [sha256(tinyGguf(1)), sha256(tinyGguf(2))],
  ]);
  const second = path.replace("00001-of", "00002-of");
  damage(second);
  assertEquals((await mismatchOf(bed.models, REF)).details.path, second);
});

Deno.test("the first verification of a file records its digest, and later ones compare, also in the next hive", async () => {
  await using bed = await startBed();
  const path = `${bed.path}/mine.gguf`;
  const ref = `file:${path}`;
  await Deno.writeFile(path, smallestGguf());
  const first = (await verify(bed.models, ref)).verified;
  assertEquals([first.sha256, first.files[0].recorded], [sha256(smallestGguf()), true]);
  assertEquals((await bed.models.list())[0].sha256, first.sha256);
  const again = (await verify(await bed.restart(), ref)).verified;
  assertEquals(again, { ...first, files: [{ ...first.files[0], recorded: false }] });

  damage(path);
  assertStringIncludes((await mismatchOf(bed.models, ref)).message, "if the file was replaced on purpose");
  await bed.models.remove(ref, IDLE);
  assertEquals((await verify(bed.models, ref)).verified.files[0].recorded, true);
});

Deno.test("the parts of a split file are recorded one by one", async () => {
  const files = Object.fromEntries(
    [1, 2].map((part) => [`m-Q4_0-0000${part}-of-00002.gguf`, tinyGguf(part)]),
  );
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } } } });
  const fetched = await fetchPath(bed.models);
  const ref = `file:${bed.path}/mine-00001-of-00002.gguf`;
  for (const part of ["00001", "00002"]) {
    await Deno.copyFile(fetched.replace("00001", part), `${bed.path}/mine-${part}-of-00002.gguf`);
  }
  const digests = [sha256(tinyGguf(1)), sha256(tinyGguf(2))];
  for (const recorded of [true, false]) {
    const { verified } = await verify(bed.models, ref);
    assertEquals(
      verified.files.map((file) => [file.digest, file.recorded]),
      digests.map((hex) => [hex, recorded]),
    );
    assertEquals(verified.sha256, null);
  }
  damage(`${bed.path}/mine-00002-of-00002.gguf`);
  assertEquals((await mismatchOf(bed.models, ref)).details.expected, digests[1]);
});

Deno.test("whoever leaves ends the hashing, and nothing is noted", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const leaving = new AbortController();
  const reason = new Error("gone");
  const running = verify(bed.models, REF, leaving.signal).catch((error) => error);
  leaving.abort(reason);
  assertEquals(await running, reason);
  assertEquals((await bed.models.list())[0].verified_at_unix, null);
});

Deno.test("a hive that closes ends the hashing", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const running = assertRejects(() => verify(bed.models, REF), RbeeError);
  // Up to the first read.
  await Promise.resolve();
  await bed.restart();
  assertEquals((await running).code, "SHUTTING_DOWN");
});

Deno.test("two verifications of one model at the same time agree", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const [one, other] = await Promise.all([verify(bed.models, REF), verify(bed.models, REF)]);
  assertEquals(one.verified, other.verified);
});

Deno.test("a model that is not here, and one that went away meanwhile, are not found", async () => {
  await using bed = await startBed();
  const code = async (work: () => Promise<unknown>) => (await assertRejects(work, RbeeError)).code;
  assertEquals(await code(() => verify(bed.models, REF)), "MODEL_NOT_FOUND");
  await fetchPath(bed.models);
  const model = await bed.models.require(REF);
  await bed.models.remove(REF, IDLE);
  const options = { signal: new AbortController().signal, emit: () => {} };
  assertEquals(await code(() => bed.models.verify(model, options)), "MODEL_NOT_FOUND");
});
