// The storage host behind the hub: signed addresses of large files, and what it says to those who come with them.

import type { HubBlob } from "./hub_content.ts";
import { type FileReply, plainReply, replyWithFile } from "./hub_files.ts";
import type { HubFile } from "./hub_repo.ts";
import { textReply } from "./hub_routes.ts";
import type { WireReply, WireRequest } from "./wire_server.ts";

/** How long a signature says it holds; only `expire` makes it so. */
const SIGNATURE_SECONDS = 3600;

/** Gives out addresses and knows them again. */
export class HubStorage {
  #keys = new Map<HubFile, string>();
  #files = new Map<string, HubFile>();
  #etags = new WeakMap<HubBlob, string>();
  #etagCount = 0;
  /** Part of every valid signature. */
  #signingKey = 1;

  /** A signed address below `origin`. The same file has the same address until `expire`. */
  addressOf(file: HubFile, origin: string): string {
    let key = this.#keys.get(file);
    if (key === undefined) {
      key = (this.#keys.size + 1).toString(16).padStart(64, "0");
      this.#keys.set(file, key);
      this.#files.set(key, file);
    }
    const query = new URLSearchParams({
      "response-content-disposition": `inline; filename="${file.path}"`,
      "Expires": String(Math.floor(Date.now() / 1000) + SIGNATURE_SECONDS),
      "Signature": this.#signature(key),
      "Key-Pair-Id": "STANDIN",
    });
    return `${origin}/storage/${key}?${query}`;
  }

  /** Makes every address given out so far invalid. */
  expire(): void {
    this.#signingKey++;
  }

  /** The file that a request's address stands for, whether or not it may be had. */
  find(request: WireRequest): HubFile | undefined {
    const match = /^\/storage\/([0-9a-f]+)\?/.exec(request.target);
    return match === null ? undefined : this.#files.get(match[1]);
  }

  /** The file, or why not. Like the real host it does not take a signature and `Authorization` together. */
  reply(request: WireRequest, options: { file: HubFile | undefined; ignoreRange: boolean }): FileReply {
    const { file, ignoreRange } = options;
    if (request.headers.has("authorization")) {
      return plainReply(xmlError(400, "InvalidArgument: only one auth mechanism allowed"));
    }
    const signature = new URL(request.target, "http://cdn").searchParams.get("Signature");
    if (file === undefined || signature !== this.#signature(this.#keys.get(file)!)) {
      return plainReply(xmlError(403, "AccessDenied"));
    }
    return replyWithFile(file, request, { etag: this.#etag(file.blob), ignoreRange });
  }

  /** Looks like a SHA-256 and is not the file's, as at the real storage host. */
  #etag(blob: HubBlob): string {
    let etag = this.#etags.get(blob);
    if (etag === undefined) {
      etag = `"${(++this.#etagCount).toString(16).padStart(64, "e")}"`;
      this.#etags.set(blob, etag);
    }
    return etag;
  }

  #signature(key: string): string {
    return `${key.slice(-8)}~${this.#signingKey}`;
  }
}

function xmlError(status: number, message: string): WireReply {
  const text = `<?xml version="1.0" encoding="UTF-8"?><Error><Message>${message}</Message></Error>`;
  return textReply(text, { status, headers: { "Content-Type": "application/xml" } });
}
