/** Takes files out of the Hugging Face cache again, and leaves no scraps that its other users would stumble over. */
import { basename, dirname, join, resolve } from "@std/path";
import { fileSize } from "./file_look.ts";
import { notePath } from "./unsettled.ts";

/** A file of a snapshot, taken apart: `REPO_FOLDER/snapshots/COMMIT/PATH`. */
export interface SnapshotPath {
  /** `…/models--OWNER--REPO`. */
  repoFolder: string;
  /** Commit id. */
  commit: string;
  /** Within the repository. */
  path: string;
}

const SNAPSHOT = /^(.+\/models--[^/]+)\/snapshots\/([0-9a-f]{40})\/(.+)$/;

/** Undefined when `path` is not in a snapshot of a cache. */
export function parseSnapshotPath(path: string): SnapshotPath | undefined {
  const match = SNAPSHOT.exec(path);
  return match === null ? undefined : { repoFolder: match[1], commit: match[2], path: match[3] };
}

/** Where a file of a snapshot would be if the cache as a whole had been moved to `root`; undefined: it is in none. */
export function pathInCache(path: string, root: string): string | undefined {
  const found = parseSnapshotPath(path);
  if (found === undefined) return undefined;
  return join(root, basename(found.repoFolder), "snapshots", found.commit, found.path);
}

/**
 * Removes the entries `paths` (all in one snapshot) with their blobs, unless another snapshot uses those; then what
 * became empty, up to the repository's folder. Paths outside a cache are left alone.
 */
export async function removeFromCache(paths: readonly string[]): Promise<void> {
  const found = parseSnapshotPath(paths[0]);
  if (found === undefined) return;
  const { repoFolder, commit } = found;
  const blobs = new Set<string>();
  for (const path of paths) {
    const blob = await linkTarget(path);
    if (blob !== undefined) blobs.add(blob);
    await removeIfThere(path);
  }
  const snapshots = join(repoFolder, "snapshots");
  for (const used of await linkTargetsBelow(snapshots)) blobs.delete(used);
  for (const blob of blobs) {
    if (dirname(blob) !== join(repoFolder, "blobs")) continue;
    for (const path of [blob, notePath(blob)]) await removeIfThere(path);
  }

  for (const path of paths) await removeEmptyFolders(dirname(path), snapshots);
  const snapshotGone = (await namesIn(join(snapshots, commit))).length === 0;
  if (snapshotGone) await removeRevisions(join(repoFolder, "refs"), commit);
  const left = [...await namesIn(snapshots), ...await namesIn(join(repoFolder, "blobs"))];
  if (left.length === 0) await removeRepo(repoFolder);
}

/** What the cache's users write down beside models: branches and tags, and files that a repository does not have. */
const NOTES = ["refs", ".no_exist"];

/** One without models. Not with what is in it by now: another hive with this cache may have begun to fetch. */
async function removeRepo(folder: string): Promise<void> {
  const content = ["blobs", "snapshots"];
  try {
    for (const name of content) await removeIfThere(join(folder, name));
    const notes = (await namesIn(folder)).filter((name) => NOTES.includes(name));
    for (const name of notes) await Deno.remove(join(folder, name), { recursive: true });
    await Deno.remove(folder);
  } catch {
    // It has; or there is something in it that no user of the cache writes, and that stays.
  }
}

/** The blob behind a snapshot's entry; undefined for a plain file. */
async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return resolve(dirname(path), await Deno.readLink(path));
  } catch {
    return undefined;
  }
}

async function linkTargetsBelow(folder: string): Promise<string[]> {
  const targets: string[] = [];
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) targets.push(...await linkTargetsBelow(path));
    const target = entry.isSymlink ? await linkTarget(path) : undefined;
    if (target !== undefined) targets.push(target);
  }
  return targets;
}

async function removeEmptyFolders(folder: string, root: string): Promise<void> {
  for (let at = folder; at !== root && at.startsWith(root); at = dirname(at)) {
    if ((await namesIn(at)).length > 0) return;
    await removeIfThere(at);
  }
}

/** Notes of branches and tags that stand for `commit`: without its snapshot they would lead nowhere. */
async function removeRevisions(folder: string, commit: string): Promise<void> {
  for (const entry of await entriesOf(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) await removeRevisions(path, commit);
    else if (await fileSize(path) === commit.length && await Deno.readTextFile(path) === commit) {
      await removeIfThere(path);
    }
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return (await entriesOf(folder)).map((entry) => entry.name);
}

async function entriesOf(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return await Array.fromAsync(Deno.readDir(folder));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Removes a file or an empty folder; that there is none is no error. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
