/** The hub: from a reference to a fixed commit with files, sizes and digests, and from there to bytes. */
import { z } from "zod";
import { RbeeError } from "../../protocol/errors.ts";
import type { HubAnswer, HubHttp } from "./hub_http.ts";
import { MAX_FILE_BYTES, MAX_TREE_PAGES } from "./limits.ts";
import { chooseModel, type HubRef } from "./model_files.ts";
import { type RetryOptions, withRetries } from "./retries.ts";

/** One file of a model at the hub. */
export interface HubFile {
  /** Within the repository; not yet known to be harmless as a path on disk. */
  path: string;
  /** Bytes. */
  size: number;
  /**
   * The digest its content must have, which is also its name in the cache: SHA-256 for large files, and for those
   * that git itself stores the SHA-1 that git gives them.
   */
  digest: { algorithm: "sha256" | "git-sha1"; hex: string };
}

/** A model at the hub, fixed to one commit. */
export interface HubModel {
  /** `OWNER/REPO`. */
  repo: string;
  /** What was asked for: branch, tag or commit. */
  revision: string;
  /** What that is now. */
  commit: string;
  /** All parts, in order. */
  files: HubFile[];
}

const DEFAULT_REVISION = "main";

const RevisionAnswer = z.object({ sha: z.string().regex(/^[0-9a-f]{40}$/) });
const TreeFile = z.object({
  type: z.literal("file"),
  path: z.string(),
  size: z.int().min(0).max(MAX_FILE_BYTES),
  oid: z.string().regex(/^[0-9a-f]{40}$/),
  lfs: z.object({
    oid: z.string().regex(/^[0-9a-f]{64}$/),
    size: z.int().min(0).max(MAX_FILE_BYTES),
  }).nullish(),
});

/**
 * Finds out what `ref` means now.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND`, `MODEL_ACCESS_DENIED`, `DOWNLOAD_FAILED`, `DOWNLOAD_TIMEOUT`, and those of
 * {@linkcode chooseModel}.
 */
export async function resolveAtHub(hub: HubHttp, ref: HubRef, options: RetryOptions): Promise<HubModel> {
  const revision = ref.revision ?? DEFAULT_REVISION;
  const base = `/api/models/${ref.repo}`;
  const get = (url: URL, what: string) =>
    withRetries(() => hub.getJson(url, { signal: options.signal, what }), options);

  const { json } = await get(hub.url(`${base}/revision/${encodeURIComponent(revision)}`), describe(ref))
    .catch((error) => {
      throw namedNotFound(error, { ref, revision });
    });
  const answer = RevisionAnswer.safeParse(json);
  if (!answer.success) throw malformed(ref, "names no commit");
  const commit = answer.data.sha;

  const files: HubFile[] = [];
  let next: URL | undefined = hub.url(`${base}/tree/${commit}?recursive=true`);
  for (let page = 1; next !== undefined; page++) {
    if (page > MAX_TREE_PAGES) throw malformed(ref, `has more than ${MAX_TREE_PAGES} pages of files`);
    const listed: Awaited<ReturnType<typeof get>> = await get(next, `the file list of ${ref.repo}`);
    if (!Array.isArray(listed.json)) throw malformed(ref, "has no file list");
    files.push(...listed.json.map(asHubFile).filter((file) => file !== undefined));
    next = nextPage(listed.headers, next);
  }
  return { repo: ref.repo, revision, commit, files: chooseModel(files, ref).files };
}

/** Options of {@linkcode openHubFile}. */
export interface OpenHubFileOptions {
  /** Ends the request and the reading. */
  signal: AbortSignal;
  /** First byte wanted. */
  offset: number;
  /** Validator of the bytes before `offset`, by the origin that gave it. */
  validator?: { origin: string; etag: string };
}

/** Asks for a file's bytes, from `offset` on. Throws as {@linkcode HubHttp.get}. */
export function openHubFile(
  hub: HubHttp,
  file: { model: HubModel; path: string },
  options: OpenHubFileOptions,
): Promise<HubAnswer> {
  const { model, path } = file;
  const { offset, validator } = options;
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return hub.get(hub.url(`/${model.repo}/resolve/${model.commit}/${encoded}`), {
    signal: options.signal,
    what: `${path} of ${model.repo}`,
    headersFor(origin) {
      if (offset === 0) return {};
      const range = { Range: `bytes=${offset}-` };
      // Another storage host knows nothing of this one's ETag and would send everything again.
      return validator?.origin === origin ? { ...range, "If-Range": validator.etag } : range;
    },
  });
}

/** Entries that are folders, or that no schema of ours knows, are no files. */
function asHubFile(entry: unknown): HubFile | undefined {
  const { success, data } = TreeFile.safeParse(entry);
  if (!success) return undefined;
  const { path, lfs } = data;
  if (lfs) return { path, size: lfs.size, digest: { algorithm: "sha256", hex: lfs.oid } };
  return { path, size: data.size, digest: { algorithm: "git-sha1", hex: data.oid } };
}

/** `Link: <…>; rel="next"`. */
function nextPage(headers: Headers, current: URL): URL | undefined {
  const link = /<([^>]+)>\s*;\s*rel="?next"?/.exec(headers.get("Link") ?? "")?.[1];
  const next = link === undefined ? undefined : URL.parse(link, current) ?? undefined;
  // Never leave the hub because a list says so.
  return next?.origin === current.origin ? next : undefined;
}

function describe(ref: HubRef): string {
  return ref.revision === undefined ? ref.repo : `${ref.repo}@${ref.revision}`;
}

function namedNotFound(error: unknown, asked: { ref: HubRef; revision: string }): unknown {
  if (!(error instanceof RbeeError) || error.details.error_code !== "RevisionNotFound") return error;
  const { ref, revision } = asked;
  return new RbeeError(
    "MODEL_NOT_FOUND",
    `${ref.repo} has no branch, tag or commit ${revision}. Check the name.`,
    {
      cause: error,
      details: { revision },
    },
  );
}

function malformed(ref: HubRef, why: string): RbeeError {
  return new RbeeError(
    "DOWNLOAD_FAILED",
    `The hub's answer about ${ref.repo} ${why}. Is hub.endpoint a hub?`,
  );
}
