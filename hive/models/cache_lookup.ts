/** What is in the Hugging Face cache already, whoever put it there. */
import { basename, join } from "@std/path";
import { QUANT_PREFERENCE } from "../../protocol/model_ref.ts";
import { isCommit, refPath, repoFolder } from "./cache.ts";
import { fileSize } from "./file_look.ts";
import { DEFAULT_REVISION, type HubFile } from "./hub.ts";
import { MAX_CACHED_FILES } from "./limits.ts";
import { chooseModel, type HubRef, quantisationOf } from "./model_files.ts";

/** A model that lies in the cache. */
export interface CachedModel {
  /** The snapshot it is in. */
  commit: string;
  /** All parts, in order; the digest is missing where a part is no link to a blob named by one. */
  files: (Pick<HubFile, "path" | "size"> & { localPath: string; digest?: HubFile["digest"] })[];
  /** No other model of the repository would be chosen if the hub were asked. */
  certain: boolean;
}

/**
 * Looks for what `ref` means in the snapshot that its revision stands for here. Undefined when there is none, or
 * when not all of its parts are there. Nothing is read but names and sizes.
 */
export async function findInCache(root: string, ref: HubRef): Promise<CachedModel | undefined> {
  const commit = await commitOf(root, ref);
  if (commit === undefined) return undefined;
  const folder = join(repoFolder(root, ref.repo), "snapshots", commit);
  const paths = await filesBelow(folder);
  try {
    const chosen = chooseModel(paths.map((path) => ({ path })), ref);
    const files = await Promise.all(chosen.files.map(({ path }) => describe(join(folder, path), path)));
    if (files.some((file) => file === undefined)) return undefined;
    const certain = ref.selector !== undefined ||
      quantisationOf(chosen.stem)?.toUpperCase() === QUANT_PREFERENCE[0];
    return { commit, files: files as CachedModel["files"], certain };
  } catch {
    // Nothing that fits, or several that do: a question for the hub.
    return undefined;
  }
}

async function commitOf(root: string, ref: HubRef): Promise<string | undefined> {
  const revision = ref.revision ?? DEFAULT_REVISION;
  if (isCommit(revision)) return revision;
  const path = refPath(root, { repo: ref.repo, revision });
  if (path === undefined || await fileSize(path) === undefined) return undefined;
  const text = (await Deno.readTextFile(path)).trim();
  return isCommit(text) ? text : undefined;
}

async function filesBelow(folder: string, prefix = ""): Promise<string[]> {
  const found: string[] = [];
  try {
    for await (const entry of Deno.readDir(join(folder, prefix))) {
      const path = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
      if (entry.isDirectory) found.push(...await filesBelow(folder, path));
      else found.push(path);
      if (found.length > MAX_CACHED_FILES) return found;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found;
}

async function describe(localPath: string, path: string): Promise<CachedModel["files"][number] | undefined> {
  const size = await fileSize(localPath);
  if (size === undefined) return undefined;
  return { path, size, localPath, digest: await digestOfEntry(localPath) };
}

/** The digest that names the blob behind a snapshot's entry. */
export async function digestOfEntry(localPath: string): Promise<HubFile["digest"] | undefined> {
  const name = basename(await Deno.readLink(localPath).catch(() => ""));
  if (/^[0-9a-f]{64}$/.test(name)) return { algorithm: "sha256", hex: name };
  if (/^[0-9a-f]{40}$/.test(name)) return { algorithm: "git-sha1", hex: name };
  return undefined;
}
