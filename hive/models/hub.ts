/** The hub: from a reference to a fixed commit with files, sizes and digests, and from there to bytes. */
import * as z from "zod";
import { RbeeError } from "../../protocol/errors.ts";
import type { ByteRange } from "./chunk_map.ts";
import type { HubHttp, HubRequest, Validator } from "./hub_http.ts";
import { MAX_FILE_BYTES, MAX_TREE_PAGES } from "./limits.ts";
import { chooseModel, type HubRef, projectorsOf } from "./model_files.ts";
import { AttemptFailed } from "./retry_plan.ts";
import { type RetryOptions, withRetries } from "./retries.ts";
import type { FileSource } from "./transfer.ts";

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
  /** Paths of files of the repository that go with it: what makes a model see. Not fetched. */
  companions: string[];
}

/** The branch that is meant when none is named. */
export const DEFAULT_REVISION = "main";

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
  const { revision, commit, files } = await listAtHub(hub, ref, options);
  return {
    repo: ref.repo,
    revision,
    commit,
    files: chooseModel(files, ref).files,
    companions: projectorsOf(files),
  };
}

/** All files of the repository at the revision that `ref` names. Throws as {@linkcode resolveAtHub}. */
export async function listAtHub(
  hub: HubHttp,
  ref: HubRef,
  options: RetryOptions,
): Promise<Pick<HubModel, "revision" | "commit" | "files">> {
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
  return { revision, commit, files };
}

/**
 * A file of a model at the hub. The storage host that the hub sends us to is asked directly from then on, until it
 * refuses: a hub counts how often it is asked.
 */
export function hubFile(hub: HubHttp, file: { model: HubModel; path: string }): FileSource {
  const { model, path } = file;
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  const address = hub.url(`/${model.repo}/resolve/${model.commit}/${encoded}`);
  let storage: URL | undefined;
  return {
    repo: model.repo,
    async open(range, { signal, validator }) {
      const request: HubRequest = {
        signal,
        what: `${path} of ${model.repo}`,
        headersFor: (origin) => rangeHeaders(range, { origin, validator }),
      };
      if (storage !== undefined) {
        try {
          return await hub.get(storage, request);
        } catch (error) {
          // Its address holds for an hour or so.
          if (!(error instanceof AttemptFailed) || !isRefusal(error.failure.status)) throw error;
          storage = undefined;
        }
      }
      const answer = await hub.get(address, request);
      storage = answer.url;
      return answer;
    },
  };
}

/** Headers that ask for a part of a file, of the same content as before where a validator tells. */
export function rangeHeaders(
  { start, end }: ByteRange,
  at: { origin: string; validator?: Validator },
): Record<string, string> {
  const headers = { Range: `bytes=${start}-${end - 1}` };
  // Another storage host knows nothing of this one's ETag and would send everything again.
  return at.validator?.origin === at.origin ? { ...headers, "If-Range": at.validator.etag } : headers;
}

function isRefusal(status: number | undefined): boolean {
  return status === 400 || status === 401 || status === 403 || status === 404 || status === 410;
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
