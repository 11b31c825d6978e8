/** Downloads that broke off and that nobody went on with. */
import { join } from "@std/path";
import { REPO_FOLDERS } from "./cache.ts";
import { tryLockBlob } from "./cache_lock.ts";

const PARTIAL = /^([0-9a-f]{40,64})\.rbee-part(\.map)?$/;
const BLOCK_BYTES = 512;

/** Options of {@linkcode removePartials}. */
export interface PartialsOptions {
  /** Only count them. */
  dryRun: boolean;
  /** Whether a repository, by the name of its folder, is to be left alone. */
  busy: (repoFolder: string) => boolean;
}

/**
 * Removes the unfinished files of the cache at `root` whose lock nobody holds, and folders that hold nothing else.
 * Bytes on the disk that they take: they are full of holes.
 */
export async function removePartials(root: string, options: PartialsOptions): Promise<number> {
  let freedBytes = 0;
  for (const { name: repo } of await entriesOf(root)) {
    if (!repo.startsWith("models--") || options.busy(repo)) continue;
    const folder = join(root, repo);
    const blobs = join(folder, "blobs");
    const digests = (await entriesOf(blobs)).flatMap(({ name }) => PARTIAL.exec(name)?.[1] ?? []);
    if (digests.length === 0) continue;
    for (const digest of new Set(digests)) {
      using lock = await tryLockBlob(digest, { root, folder: repo });
      if (lock === undefined) continue;
      for (const path of [join(blobs, `${digest}.rbee-part.map`), join(blobs, `${digest}.rbee-part`)]) {
        freedBytes += await bytesOnDisk(path);
        if (!options.dryRun) await unless(Deno.errors.NotFound, Deno.remove(path));
      }
    }
    if (!options.dryRun) await removeEmptyRepo(folder);
  }
  return freedBytes;
}

/** Not with what is in it: somebody may have begun to fetch. */
async function removeEmptyRepo(folder: string): Promise<void> {
  try {
    const paths = [...REPO_FOLDERS.map((name) => join(folder, name)), folder];
    for (const path of paths) await unless(Deno.errors.NotFound, Deno.remove(path));
  } catch {
    // Something is in it.
  }
}

async function bytesOnDisk(path: string): Promise<number> {
  const info = await unless(Deno.errors.NotFound, Deno.stat(path));
  return info === undefined ? 0 : info.blocks === null ? info.size : info.blocks * BLOCK_BYTES;
}

/** What is in a folder of the cache; nothing where there is none. */
export async function entriesOf(folder: string): Promise<Deno.DirEntry[]> {
  const entries = unless(Deno.errors.NotFound, Array.fromAsync(Deno.readDir(folder)));
  // What other tools put into the cache need not be a folder.
  return await unless(Deno.errors.NotADirectory, entries) ?? [];
}

/** Undefined in place of this kind of error. */
async function unless<T>(kind: new () => Error, work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof kind) return undefined;
    throw error;
  }
}
