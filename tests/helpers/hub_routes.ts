// The hub's addresses and its refusals: what a request asks for, and who may have it.

import type { HubRepo } from "./hub_repo.ts";
import type { WireReply } from "./wire_server.ts";

/** What a target at the hub's origin asks for. */
export type HubTarget =
  | { readonly kind: "info"; readonly repo: string; readonly revision: string; readonly blobs: boolean }
  | {
    readonly kind: "tree";
    readonly repo: string;
    readonly revision: string;
    readonly folder: string;
    readonly recursive: boolean;
    readonly limit: number | undefined;
    /** Entries to skip. */
    readonly cursor: number;
  }
  | {
    readonly kind: "resolve";
    readonly repo: string;
    readonly revision: string;
    readonly path: string;
    /** Asked for at the cache's address, to which the proper one may redirect. */
    readonly cached: boolean;
  }
  | { readonly kind: "other" };

/** A "no", as the hub words it. */
export interface HubRefusal {
  readonly status: number;
  /** `X-Error-Code`; the hub leaves it out where it would give a secret away. */
  readonly code?: "RepoNotFound" | "RevisionNotFound" | "EntryNotFound" | "GatedRepo";
  readonly message: string;
}

/** Where a small file is redirected to when the hub serves it from its cache. */
export const RESOLVE_CACHE_PREFIX = "/api/resolve-cache/models";

const API_ROUTE = /^\/api\/models\/([^/]+\/[^/]+?)(?:\/(revision|tree)\/([^/]+)(?:\/(.+))?)?$/;
const RESOLVE_ROUTE = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/;
const RESOLVE_CACHE_ROUTE = new RegExp(`^${RESOLVE_CACHE_PREFIX}/([^/]+/[^/]+)/([^/]+)/(.+)$`);

/** Reads a path with query. Segments are decoded after splitting, so that `refs%2Fpr%2F1` is one revision. */
export function parseTarget(target: string): HubTarget {
  const url = new URL(target, "http://hub");
  const cached = url.pathname.startsWith(RESOLVE_CACHE_PREFIX);
  const resolve = (cached ? RESOLVE_CACHE_ROUTE : RESOLVE_ROUTE).exec(url.pathname);
  if (resolve !== null) {
    const [repo, revision, path] = resolve.slice(1).map(decodeURIComponent);
    return { kind: "resolve", repo, revision, path, cached };
  }
  const api = API_ROUTE.exec(url.pathname);
  if (api === null) return { kind: "other" };
  const [repo, route = "revision", revision = "main", folder = ""] = api.slice(1).map((part) =>
    part === undefined ? undefined : decodeURIComponent(part)
  );
  const query = url.searchParams;
  if (repo === undefined || (route === "revision" && folder !== "")) return { kind: "other" };
  if (route === "revision") return { kind: "info", repo, revision, blobs: isTrue(query.get("blobs")) };
  const limit = query.has("limit") ? Number(query.get("limit")) : undefined;
  const cursor = Number(query.get("cursor") ?? 0);
  return { kind: "tree", repo, revision, folder, recursive: isTrue(query.get("recursive")), limit, cursor };
}

function isTrue(value: string | null): boolean {
  return value?.toLowerCase() === "true" || value === "1";
}

/** The repositories each token opens; a token not listed counts as none. */
export type HubTokens = Readonly<Record<string, readonly string[]>>;

/** Who asks. */
export interface HubCaller {
  readonly token: string | undefined;
  readonly tokens: HubTokens;
}

/** The token of an `Authorization` header. */
export function bearerToken(headers: Headers): string | undefined {
  return /^Bearer (\S+)$/.exec(headers.get("authorization") ?? "")?.[1];
}

/**
 * Why this caller may not have the repository's facts or files, if so.
 *
 * To a caller without a valid token, what is missing and what is private look alike: 401 without a code.
 */
export function refusal(
  repo: HubRepo | undefined,
  options: { caller: HubCaller; wants: "facts" | "files" },
): HubRefusal | undefined {
  const { token, tokens } = options.caller;
  const known = token !== undefined && token in tokens;
  const granted = known && repo !== undefined && tokens[token].includes(repo.name);
  if (repo === undefined || (repo.private && !granted)) {
    return known
      ? { status: 404, code: "RepoNotFound", message: "Repository not found" }
      : { status: 401, message: "Invalid username or password." };
  }
  if (repo.gated === false || options.wants === "facts" || granted) return undefined;
  const start = `Access to model ${repo.name} is restricted`;
  return known
    ? { status: 403, code: "GatedRepo", message: `${start} and you are not in the authorized list.` }
    : { status: 401, code: "GatedRepo", message: `${start}. You must be authenticated to access it.` };
}

export function revisionNotFound(revision: string): HubRefusal {
  return { status: 404, code: "RevisionNotFound", message: `Invalid rev id: ${revision}` };
}

export const ENTRY_NOT_FOUND: HubRefusal = { status: 404, code: "EntryNotFound", message: "Entry not found" };

/** JSON under `/api/`, plain text elsewhere, as at the hub. */
export function refusalReply(refused: HubRefusal, options: { json: boolean }): WireReply {
  const headers: Record<string, string> = { "X-Error-Message": refused.message };
  if (refused.code !== undefined) headers["X-Error-Code"] = refused.code;
  if (options.json) return jsonReply({ error: refused.message }, { status: refused.status, headers });
  return textReply(refused.message, { status: refused.status, headers });
}

export function jsonReply(
  value: unknown,
  options: { status?: number; headers?: Readonly<Record<string, string>> } = {},
): WireReply {
  return textReply(JSON.stringify(value), {
    status: options.status ?? 200,
    headers: { ...options.headers, "Content-Type": "application/json; charset=utf-8" },
  });
}

export function textReply(
  text: string,
  options: { status: number; headers?: Readonly<Record<string, string>> },
): WireReply {
  const bytes = new TextEncoder().encode(text);
  const headers = {
    "Content-Type": "text/plain; charset=utf-8",
    ...options.headers,
    "Content-Length": String(bytes.length),
  };
  return { status: options.status, headers, body: once(bytes) };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
