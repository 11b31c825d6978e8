/**
 * The standard Hugging Face cache, so that `hf`, llama.cpp and Python find what rbee fetched and the other way
 * round: `models--OWNER--REPO/blobs/DIGEST`, `snapshots/COMMIT/PATH` as relative links to blobs, `refs/REVISION`.
 */
import { dirname, join, relative, resolve } from "@std/path";
import type { Config } from "../../home/config_schema.ts";
import type { Environment } from "../../home/paths.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { HubFile, HubModel } from "./hub.ts";
import { MAX_FILE_PATH_CHARS } from "./limits.ts";

/** Folders of a repository in the cache. */
export const REPO_FOLDERS = ["snapshots", "blobs", "refs"] as const;

/** Where one file of a model lives. */
export interface CachePaths {
  /** The content, named by its digest; there only when complete and verified. */
  blob: string;
  /**
   * What was fetched of it so far, with holes: not under the name that `hf` uses for its own unfinished files, which
   * it goes on with at their end.
   */
  partial: string;
  /** The name it is used by. */
  snapshot: string;
}

/** `HF_HOME`, else `huggingface` in the user's cache folder. */
export function hubHome(env: Environment): string {
  const explicit = env.get("HF_HOME");
  if (explicit) return expanded(explicit, env);
  const cache = env.get("XDG_CACHE_HOME") || join(userHome(env), ".cache");
  return join(cache, "huggingface");
}

/** The folder of all models: `hive.models_dir`, else `HF_HUB_CACHE`, else `hub` in {@linkcode hubHome}. */
export function cacheRoot(config: Config, env: Environment): string {
  const explicit = config.hive.models_dir ?? env.get("HF_HUB_CACHE");
  return explicit ? expanded(explicit, env) : join(hubHome(env), "hub");
}

/** The folder of one repository. */
export function repoFolder(root: string, repo: string): string {
  return join(root, repoFolderName(repo));
}

/** Its name. */
export function repoFolderName(repo: string): string {
  return `models--${repo.replace("/", "--")}`;
}

/** Makes the folders that other users of the cache miss in a repository where nothing is finished yet. */
export async function makeRepoFolders(root: string, repo: string): Promise<void> {
  for (const name of REPO_FOLDERS) await Deno.mkdir(join(repoFolder(root, repo), name), { recursive: true });
}

/** Where it is noted which commit a branch or tag stands for; undefined when that is no plain path. */
export function refPath(root: string, at: { repo: string; revision: string }): string | undefined {
  return isPlainPath(at.revision) ? join(repoFolder(root, at.repo), "refs", at.revision) : undefined;
}

/**
 * Where a file goes. Nothing that the hub says reaches the file system unchecked.
 *
 * @throws {RbeeError} `INVALID_MODEL` when the hub's path is no plain relative path.
 */
export function cachePaths(root: string, at: { repo: string; commit: string; file: HubFile }): CachePaths {
  const { file } = at;
  const folder = repoFolder(root, at.repo);
  const blob = join(folder, "blobs", file.digest.hex);
  return { blob, partial: partialPath(blob), snapshot: snapshotPath(root, { ...at, path: file.path }) };
}

/** Where the unfinished file of a blob lies. */
export function partialPath(blob: string): string {
  return `${blob}.rbee-part`;
}

/** The name of a file in a snapshot. Throws as {@linkcode cachePaths}. */
export function snapshotPath(root: string, at: { repo: string; commit: string; path: string }): string {
  if (!isPlainPath(at.path)) {
    const shown = JSON.stringify(at.path.slice(0, 120));
    throw new RbeeError(
      "INVALID_MODEL",
      `The hub lists a file of ${at.repo} under ${shown}, which is no plain path. Use another repository.`,
    );
  }
  return join(repoFolder(root, at.repo), "snapshots", at.commit, at.path);
}

/** Whether a path of a repository is harmless as a path on disk. */
export function isPlainPath(path: string): boolean {
  // deno-lint-ignore no-control-regex
  if (path.length > MAX_FILE_PATH_CHARS || /[\u0000-\u001f\u007f\\:]/.test(path)) return false;
  return path.split("/").every((segment) => segment !== "" && segment !== "." && segment !== "..");
}

/** Whether a revision is the full id of a commit, which stands for itself for ever. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Makes the snapshot's entry point to the blob, in one step: nobody ever sees it absent or half made. */
export async function linkSnapshot(paths: CachePaths): Promise<void> {
  const folder = dirname(paths.snapshot);
  await Deno.mkdir(folder, { recursive: true });
  const aside = join(folder, `.${crypto.randomUUID()}`);
  await Deno.symlink(relative(folder, paths.blob), aside);
  await Deno.rename(aside, paths.snapshot);
}

/** Notes which commit a branch or tag stands for. A commit needs no note. */
export async function writeRevision(root: string, model: HubModel): Promise<void> {
  const path = refPath(root, model);
  if (model.revision === model.commit || path === undefined) return;
  await Deno.mkdir(dirname(path), { recursive: true });
  // Whoever reads it meanwhile sees the old commit or the new one.
  const aside = join(dirname(path), `.${crypto.randomUUID()}`);
  await Deno.writeTextFile(aside, model.commit);
  await Deno.rename(aside, path);
}

function expanded(path: string, env: Environment): string {
  return resolve(path.startsWith("~/") ? join(userHome(env), path.slice(2)) : path);
}

function userHome(env: Environment): string {
  const home = env.get("HOME") ?? env.get("USERPROFILE");
  if (home) return home;
  throw new RbeeError(
    "INVALID_REQUEST",
    "HOME is not set: there is no place for models. Set hive.models_dir.",
  );
}
