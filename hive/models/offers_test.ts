/** What a hive tells and hands to other hives, and what it does not. */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { RbeeError } from "../../protocol/errors.ts";
import { ModelOffer } from "../../protocol/hive_schemas.ts";
import type { Models } from "./models.ts";
import { fetchPath, FILE, REF, REPO, smallestGguf, startBed, tinyGguf } from "./models_test_bed.ts";

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function notFound(work: () => Promise<unknown>): Promise<string> {
  const error = await assertRejects(work, RbeeError);
  assertEquals(error.code, "MODEL_NOT_FOUND");
  return error.message;
}

/** Everything that was looked at, opened or read while `work` ran. */
async function pathsTouched(work: () => Promise<unknown>): Promise<string[]> {
  const paths: string[] = [];
  const names = [
    "open",
    "readLink",
    "stat",
    "lstat",
    "readFile",
    "readTextFile",
    "realPath",
    "statSync",
  ] as const;
  const own = Object.fromEntries(names.map((name) => [name, Deno[name]]));
  for (const name of names) {
    const watched = (path: string | URL, ...rest: unknown[]) => {
      paths.push(String(path));
      return Reflect.apply(own[name], Deno, [path, ...rest]);
    };
    Object.assign(Deno, { [name]: watched });
  }
  try {
    await work();
  } finally {
    Object.assign(Deno, own);
  }
  return paths;
}

Deno.test("an offer says commit, path, size and digest, and its digest leads to the file", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  const offer = await bed.models.offer(REF);
  const digest = { algorithm: "sha256", hex: sha256(tinyGguf()) } as const;
  assertEquals(offer, {
    ...{ repo: REPO, revision: "main", commit: bed.hub.head(REPO), companions: [] },
    files: [{ path: FILE, size: tinyGguf().length, digest }],
  });
  assertEquals(ModelOffer.parse(offer), offer);
  assertEquals(await bed.models.blob(digest.hex), path);
});

Deno.test("the revision of an offer is the one that was asked for", async () => {
  await using bed = await startBed();
  const commit = bed.hub.head(REPO);
  for (const revision of [commit, "main"]) {
    await fetchPath(bed.models, `${REF}@${revision}`);
    const offer = await bed.models.offer(`${REF}@${revision}`);
    assertEquals([offer.revision, offer.commit], [revision, commit]);
  }
});

Deno.test("all parts of a split model are offered, in order and with their folder", async () => {
  const paths = [1, 2, 3].map((part) => `big/m-Q8_0-0000${part}-of-00003.gguf`);
  const files = Object.fromEntries(paths.map((path, part) => [path, tinyGguf(part)]));
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } } } });
  await fetchPath(bed.models);
  const offer = await bed.models.offer(REF);
  assertEquals(offer.files.map(({ path }) => path), paths);
  assertEquals(offer.files.map(({ digest }) => digest.hex), [0, 1, 2].map((part) => sha256(tinyGguf(part))));
  for (const { digest } of offer.files) {
    assertEquals(sha256(await Deno.readFile(await bed.models.blob(digest.hex))), digest.hex);
  }
  await Deno.remove(await bed.models.blob(offer.files[2].digest.hex));
  await notFound(() => bed.models.offer(REF));
});

Deno.test("a file that git itself stores is offered by git's digest", async () => {
  const files = { [FILE]: { content: tinyGguf(), lfs: false } };
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } } } });
  await fetchPath(bed.models);
  const [{ digest }] = (await bed.models.offer(REF)).files;
  assertEquals([digest.algorithm, digest.hex.length], ["git-sha1", 40]);
  assertEquals(await Deno.readFile(await bed.models.blob(digest.hex)), tinyGguf());
});

Deno.test("what is not here is not offered, and not fetched for that", async () => {
  await using bed = await startBed();
  assertStringIncludes(await notFound(() => bed.models.offer(REF)), "is not in the catalog");
  await Deno.remove(await fetchPath(bed.models));
  const asked = bed.hub.requests.length;
  await notFound(() => bed.models.offer(REF));
  assertEquals(bed.hub.requests.length, asked);
  assertEquals((await assertRejects(() => bed.models.offer("tiny"), RbeeError)).code, "INVALID_REQUEST");
});

Deno.test("somebody's own files and the models of the installation are nobody else's", async () => {
  await using bed = await startBed();
  const own = `${bed.path}/own.gguf`;
  await Deno.writeFile(own, smallestGguf());
  for (const ref of [`file:${own}`, "builtin:stories"]) {
    const { local_path } = await bed.models.require(ref);
    await notFound(() => bed.models.offer(ref));
    await notFound(async () => bed.models.blob(sha256(await Deno.readFile(local_path))));
  }
});

Deno.test("a file of the cache that was named as a file is no model of a hub", async () => {
  await using bed = await startBed();
  const snapshot = `${bed.repoFolder}/snapshots/${bed.hub.head(REPO)}`;
  const digest = sha256(smallestGguf());
  await Deno.mkdir(snapshot, { recursive: true });
  await Deno.mkdir(`${bed.repoFolder}/blobs`);
  await Deno.writeFile(`${bed.repoFolder}/blobs/${digest}`, smallestGguf());
  await Deno.symlink(`../../blobs/${digest}`, `${snapshot}/own.gguf`);
  const ref = `file:${snapshot}/own.gguf`;
  await bed.models.require(ref);
  await notFound(() => bed.models.offer(ref));
  await notFound(() => bed.models.blob(digest));
});

Deno.test("a file without a digest is not offered: nobody could tell whether it came well", async () => {
  await using bed = await startBed();
  const snapshot = `${bed.repoFolder}/snapshots/${bed.hub.head(REPO)}`;
  await Deno.mkdir(snapshot, { recursive: true });
  await Deno.writeFile(`${snapshot}/${FILE}`, tinyGguf());
  await Deno.mkdir(`${bed.repoFolder}/refs`);
  await Deno.writeTextFile(`${bed.repoFolder}/refs/main`, bed.hub.head(REPO));
  await bed.models.require(REF);
  assertStringIncludes(await notFound(() => bed.models.offer(REF)), "without its checksums");
});

Deno.test("what others put into the cache is offered too, once it is known what it is", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const home = `${bed.path}/another-hive`;
  await Deno.mkdir(home);
  const models = await bed.restart({ home });
  assertEquals((await models.offer(REF)).files.length, 1);
});

const NO_DIGESTS = [
  ...["", ".", "..", "../../secret", "/etc/secret", "..%2F..%2Fsecret", "secret\0", "%", "secret*"],
  ...["SECRET", `secret${"0".repeat(58)}`, "x".repeat(10_000)],
];
Deno.test("what is no digest of a model never reaches the file system", async () => {
  await using bed = await startBed();
  const entry = await fetchPath(bed.models);
  const digest = sha256(tinyGguf());
  const close = [
    digest.toUpperCase(),
    `${digest} `,
    `${digest}/`,
    `./${digest}`,
    digest.slice(0, 63),
    `${digest}0`,
  ];
  for (const text of [...NO_DIGESTS, ...close]) {
    const touched = await pathsTouched(() => notFound(() => bed.models.blob(text)));
    assertEquals(touched, [entry], text.slice(0, 80));
  }
});

async function blobCodes(models: Models, digests: readonly string[]): Promise<void> {
  for (const digest of digests) await notFound(() => models.blob(digest));
}

Deno.test("an unfinished file, and a blob that no model of the catalog uses, cannot be had", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const [unfinished, foreign] = ["aa".repeat(32), "bb".repeat(32)];
  for (const name of [`${unfinished}.rbee-part`, `${unfinished}.rbee-part.map`, foreign]) {
    await Deno.writeTextFile(`${bed.repoFolder}/blobs/${name}`, "x");
  }
  await blobCodes(bed.models, [unfinished, `${unfinished}.rbee-part`, foreign]);
  await bed.models.remove(REF, { inUse: () => false });
  await blobCodes(bed.models, [sha256(tinyGguf())]);
});
