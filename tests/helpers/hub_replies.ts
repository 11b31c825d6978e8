// What the hub's own origin answers when nothing is made to go wrong.

import { type FileReply, plainReply, replyWithFile } from "./hub_files.ts";
import type { HubFile, HubRepo } from "./hub_repo.ts";
import {
  bearerToken,
  ENTRY_NOT_FOUND,
  type HubRefusal,
  type HubTarget,
  type HubTokens,
  jsonReply,
  refusal,
  refusalReply,
  RESOLVE_CACHE_PREFIX,
  revisionNotFound,
  textReply,
} from "./hub_routes.ts";
import type { WireRequest } from "./wire_server.ts";

/** What the answers depend on besides the request. */
export interface HubFacts {
  readonly repos: ReadonlyMap<string, HubRepo>;
  readonly tokens: HubTokens;
  readonly treePageSize: number;
  readonly resolveCache: boolean;
  /** The hub's own origin. */
  readonly origin: string;
  /** A signed address of a large file. */
  readonly addressOf: (file: HubFile) => string;
}

export async function replyAtHub(
  request: WireRequest,
  options: { target: HubTarget; facts: HubFacts; ignoreRange: boolean },
): Promise<FileReply> {
  const { target, facts, ignoreRange } = options;
  const json = target.kind !== "resolve";
  const refuse = (refused: HubRefusal) => plainReply(refusalReply(refused, { json }));

  if (request.method !== "GET" && request.method !== "HEAD") {
    return refuse({ status: 405, message: `${request.method} is not supported here` });
  }
  if (target.kind === "other") return refuse({ status: 404, message: "Sorry, we can't find the page" });

  const repo = facts.repos.get(target.repo);
  const refused = refusal(repo, {
    caller: { token: bearerToken(request.headers), tokens: facts.tokens },
    wants: json ? "facts" : "files",
  });
  if (repo === undefined || refused !== undefined) {
    return refuse(refused ?? { status: 404, code: "RepoNotFound", message: "Repository not found" });
  }
  const commit = repo.resolve(target.revision);
  if (commit === undefined) return refuse(revisionNotFound(target.revision));

  switch (target.kind) {
    case "info":
      return plainReply(jsonReply(await repo.info(commit, { blobs: target.blobs })));
    case "tree":
      return await treeReply(repo, { ...options, target, commit });
    case "resolve": {
      const file = repo.file(commit, target.path);
      if (file === undefined) return refuse(ENTRY_NOT_FOUND);
      return await resolveReply(file, { ...{ request, target, repo, commit }, facts, ignoreRange });
    }
  }
}

async function treeReply(
  repo: HubRepo,
  options: { target: Extract<HubTarget, { kind: "tree" }>; commit: string; facts: HubFacts },
): Promise<FileReply> {
  const { target, commit, facts } = options;
  const entries = await repo.tree(commit, target);
  if (target.folder !== "" && entries.length === 0) {
    return plainReply(refusalReply(ENTRY_NOT_FOUND, { json: true }));
  }
  const limit = Math.min(target.limit ?? facts.treePageSize, facts.treePageSize);
  const end = target.cursor + limit;
  const headers: Record<string, string> = {};
  if (end < entries.length) {
    const folder = target.folder === "" ? "" : `/${encodePath(target.folder)}`;
    const query = new URLSearchParams({
      recursive: String(target.recursive),
      limit: String(limit),
      cursor: String(end),
    });
    const path = `/api/models/${repo.name}/tree/${encodeURIComponent(target.revision)}${folder}`;
    headers["Link"] = `<${facts.origin}${path}?${query}>; rel="next"`;
  }
  return plainReply(jsonReply(entries.slice(target.cursor, end), { headers }));
}

async function resolveReply(
  file: HubFile,
  options: {
    request: WireRequest;
    target: Extract<HubTarget, { kind: "resolve" }>;
    repo: HubRepo;
    commit: string;
    facts: HubFacts;
    ignoreRange: boolean;
  },
): Promise<FileReply> {
  const { request, target, repo, commit, facts, ignoreRange } = options;
  const gitEtag = `"${await file.gitOid()}"`;
  const headers = { "X-Repo-Commit": commit, "Accept-Ranges": "bytes" };
  if (file.lfs) {
    const location = facts.addressOf(file);
    return plainReply(textReply(`Found. Redirecting to ${location}`, {
      status: 302,
      headers: {
        ...headers,
        "Location": location,
        "ETag": gitEtag,
        "X-Linked-ETag": `"${await file.sha256()}"`,
        "X-Linked-Size": String(file.blob.size),
      },
    }));
  }
  if (facts.resolveCache && !target.cached) {
    const location = `${RESOLVE_CACHE_PREFIX}/${repo.name}/${commit}/${encodePath(file.path)}`;
    return plainReply(textReply(`Temporary Redirect. Redirecting to ${location}`, {
      status: 307,
      headers: {
        ...headers,
        "Location": location,
        "X-Linked-ETag": gitEtag,
        "X-Linked-Size": String(file.blob.size),
      },
    }));
  }
  return replyWithFile(file, request, { etag: gitEtag, headers, ignoreRange });
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
