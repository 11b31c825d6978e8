/**
 * Files that have their name while their bytes are still on the way to the disk: who waits for a model need not wait
 * for the disk. Beside such a file lies the map of what had reached the disk for sure, so that a file that a power cut
 * has left with holes is never taken for whole.
 */
import { join } from "@std/path";
import { type CachePaths, partialPath } from "./cache.ts";
import { isOfThisBoot, PartFile } from "./part_file.ts";
import { entriesOf } from "./partials.ts";

/** Where a file is, whole or unfinished. */
export type FilePaths = Pick<CachePaths, "blob" | "partial">;

const SUFFIX = ".rbee-unsettled";

/** Where it is noted of the file at `blob`. */
export function notePath(blob: string): string {
  return blob + SUFFIX;
}

/** All files of the cache at `root` beside which it is noted that their bytes are perhaps not on the disk. */
export async function unsettledFiles(root: string): Promise<FilePaths[]> {
  const found: FilePaths[] = [];
  for (const { name: repo } of await entriesOf(root)) {
    if (!repo.startsWith("models--")) continue;
    for (const { name } of await entriesOf(join(root, repo, "blobs"))) {
      if (!name.endsWith(SUFFIX)) continue;
      const blob = join(root, repo, "blobs", name.slice(0, -SUFFIX.length));
      found.push({ blob, partial: partialPath(blob) });
    }
  }
  return found;
}

/**
 * Gives a file that is all there its final name. `data` is that file, and closed in the end.
 *
 * @returns settles when its bytes are on the disk too, with the error when they cannot be written: the file is an
 * unfinished one again then.
 */
export async function nameFile(
  paths: FilePaths,
  data: Deno.FsFile,
): Promise<{ settled: Promise<unknown> }> {
  try {
    // In this order: a disk that knows the second name knows the note as well.
    await Deno.rename(PartFile.mapPath(paths.partial), notePath(paths.blob));
    await Deno.rename(paths.partial, paths.blob);
  } catch (error) {
    data.close();
    throw error;
  }
  return { settled: settle(paths, data) };
}

/**
 * Looks after a file whose process ended before its bytes were on the disk. While the machine has run on they are in
 * its memory, and are written now. After another start nobody knows what the file holds: it becomes an unfinished one.
 *
 * @returns settles when that is done, with the error when the bytes cannot be written. A file that becomes unfinished
 * is so already.
 */
export async function settleLeftOver(paths: FilePaths): Promise<{ settled: Promise<unknown> }> {
  try {
    if (isOfThisBoot(await Deno.readFile(notePath(paths.blob)))) {
      return { settled: settle(paths, await Deno.open(paths.blob, { write: true })) };
    }
  } catch (error) {
    // Removed, or already an unfinished one but for its map.
    if (!(error instanceof Deno.errors.NotFound)) return { settled: Promise.resolve(error) };
  }
  return { settled: Promise.resolve(await makeUnfinished(paths)) };
}

async function settle(paths: FilePaths, data: Deno.FsFile): Promise<unknown> {
  try {
    await data.syncData();
    await Deno.remove(notePath(paths.blob));
  } catch (error) {
    // Removed with all that belongs to it.
    if (error instanceof Deno.errors.NotFound) return;
    return await makeUnfinished(paths) ?? error;
  } finally {
    data.close();
  }
}

/** The map last: alone it says nothing. */
async function makeUnfinished(paths: FilePaths): Promise<unknown> {
  for (
    const [from, to] of [[paths.blob, paths.partial], [notePath(paths.blob), PartFile.mapPath(paths.partial)]]
  ) {
    try {
      await Deno.rename(from, to);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) return error;
    }
  }
}
