import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { createHash } from "node:crypto";
import { eventually } from "../../tests/helpers/eventually.ts";
import { FollowingDigest } from "./following_digest.ts";
import { DIGEST_STEP_BYTES, DIGEST_THREAD_BYTES } from "./limits.ts";
import { contentOf, tempFolder } from "./part_file_test_bed.ts";

const ALGORITHMS = ["sha256", "git-sha1"] as const;
type Algorithm = typeof ALGORITHMS[number];

/** Just over what is worth a thread, and no multiple of what that reads at once. */
const LARGE_BYTES = DIGEST_THREAD_BYTES + 12_345;

function plainDigest(content: Uint8Array, algorithm: Algorithm): string {
  const hash = createHash(algorithm === "sha256" ? "sha256" : "sha1");
  if (algorithm === "git-sha1") hash.update(`blob ${content.length}\0`);
  return hash.update(content).digest("hex");
}

function follow(path: string, file: { size: number; algorithm: Algorithm }): FollowingDigest {
  // Which digest is expected does not matter to whoever computes it.
  return new FollowingDigest(path, { size: file.size, digest: { algorithm: file.algorithm, hex: "" } });
}

/** How far whoever has the file open has read it; undefined when nobody has, or the system does not tell. */
function readBytes(path: string): number | undefined {
  if (Deno.build.os !== "linux") return undefined;
  const file = Deno.realPathSync(path);
  for (const { name: fd } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${fd}`) !== file) continue;
      return Number(/^pos:\s*(\d+)/m.exec(Deno.readTextFileSync(`/proc/self/fdinfo/${fd}`))![1]);
    } catch (error) {
      // Closed meanwhile: the one that lists them, for example.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** Lets the file come up to these offsets in turn, with holes behind, and tells the digest each time. */
async function digestBeside(
  path: string,
  come: { content: Uint8Array; algorithm: Algorithm; offsets: readonly number[] },
): Promise<string> {
  const { content, algorithm, offsets } = come;
  const { length: size } = content;
  await Deno.create(path).then(async (file) => {
    using _ = file;
    await file.truncate(size);
  });
  using digest = follow(path, { size, algorithm });
  let doneBytes = 0;
  for (const offset of [...offsets.toSorted((a, b) => a - b), size]) {
    {
      using file = await Deno.open(path, { write: true });
      await file.seek(doneBytes, Deno.SeekMode.Start);
      while (doneBytes < offset) doneBytes += await file.write(content.subarray(doneBytes, offset));
    }
    // Told twice, and of less than before: that is no news.
    for (const untilBytes of [offset, offset, Math.floor(offset / 2)]) digest.advance(untilBytes);
    if (size < DIGEST_THREAD_BYTES || offset === size || Deno.build.os !== "linux") continue;
    await eventually(`nearly all of the first ${offset} bytes are read, and no more`, () => {
      const left = offset - (readBytes(path) ?? NaN);
      return left >= 0 && left < DIGEST_STEP_BYTES;
    });
  }
  return await digest.result();
}

Deno.test("a small file's digest is that of its bytes, however they come", async () => {
  await using folder = await tempFolder();
  const algorithms = fc.constantFrom(...ALGORITHMS);
  const sizes = fc.oneof(fc.nat(3), fc.nat(100_000));
  await fc.assert(
    fc.asyncProperty(sizes, algorithms, fc.array(fc.nat(100_000)), async (size, algorithm, list) => {
      const content = contentOf(size);
      const offsets = list.map((offset) => Math.min(offset, size));
      assertEquals(
        await digestBeside(`${folder.path}/x`, { content, algorithm, offsets }),
        plainDigest(content, algorithm),
      );
    }),
    { numRuns: 50 },
  );
});

for (const algorithm of ALGORITHMS) {
  Deno.test(`a large file's ${algorithm} is computed while it comes, and no byte is read too early`, async () => {
    await using folder = await tempFolder();
    const content = contentOf(LARGE_BYTES);
    const offsets = fc.array(fc.nat(LARGE_BYTES), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(offsets, async (offsets) => {
        assertEquals(
          await digestBeside(`${folder.path}/x`, { content, algorithm, offsets }),
          plainDigest(content, algorithm),
        );
      }),
      // A smaller example would take as long to find as it takes to wait in vain.
      { numRuns: 2, endOnFailure: true },
    );
  });
}

Deno.test("a large file that is all there at once has its digest, whether that is told or not", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  const content = contentOf(DIGEST_THREAD_BYTES);
  await Deno.writeFile(path, content);
  using digest = follow(path, { size: content.length, algorithm: "sha256" });
  assertEquals(await digest.result(), plainDigest(content, "sha256"));
  assertEquals(await digest.result(), plainDigest(content, "sha256"));
});

Deno.test("a large file that is shorter than it should be is an error that says where it ends", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  await Deno.writeFile(path, contentOf(1_000_000));
  using digest = follow(path, { size: LARGE_BYTES, algorithm: "sha256" });
  digest.advance(2_000_000);
  await assertRejects(() => digest.result(), Error, `the file ends at byte 1000000 of ${LARGE_BYTES}`);
});

Deno.test("a small file that is shorter than it should be has another digest", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  await Deno.writeFile(path, contentOf(1_000));
  for (const algorithm of ALGORITHMS) {
    using digest = follow(path, { size: 1_001, algorithm });
    assertNotEquals(await digest.result(), plainDigest(contentOf(1_001), algorithm));
  }
});

for (const size of [1_000, LARGE_BYTES]) {
  Deno.test(`a file of ${size} bytes that cannot be read is an error`, async () => {
    await using folder = await tempFolder();
    using digest = follow(`${folder.path}/missing`, { size, algorithm: "sha256" });
    await assertRejects(() => digest.result(), Error, "No such file");
  });
}

Deno.test("a digest that nobody waits for any more is given up without a trace", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  await Deno.writeFile(path, new Uint8Array(1));
  await Deno.truncate(path, LARGE_BYTES);
  using digest = follow(path, { size: LARGE_BYTES, algorithm: "sha256" });
  digest.advance(LARGE_BYTES - 1);
  let settled = false;
  const result = digest.result().finally(() => settled = true);
  digest[Symbol.dispose]();
  digest.advance(LARGE_BYTES);
  void result;
  // A new one for the same file starts from its beginning.
  using next = follow(path, { size: LARGE_BYTES, algorithm: "sha256" });
  assertEquals(await next.result(), plainDigest(Deno.readFileSync(path), "sha256"));
  assert(!settled);
});
