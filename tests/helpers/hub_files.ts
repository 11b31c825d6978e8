// How a file's bytes are served: whole, in part, or not at all.

import type { HubFile } from "./hub_repo.ts";
import type { WireReply, WireRequest } from "./wire_server.ts";

/** An answer with the offset in the file of its first byte. */
export interface FileReply {
  readonly reply: WireReply;
  readonly bodyStart: number;
}

/** An answer that is not a part of a file. */
export function plainReply(reply: WireReply): FileReply {
  return { reply, bodyStart: 0 };
}

/** What is special about one answer. */
export interface FileReplyOptions {
  /** Quoted, as in the header. */
  readonly etag: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Pretend not to know `Range`. */
  readonly ignoreRange: boolean;
}

/** 200, 206 or 416. Several ranges at once are not supported and answered whole, which HTTP allows. */
export function replyWithFile(file: HubFile, request: WireRequest, options: FileReplyOptions): FileReply {
  const { blob } = file;
  const common: Record<string, string> = {
    "Content-Type": file.lfs ? "application/octet-stream" : "text/plain; charset=utf-8",
    "ETag": options.etag,
    ...options.headers,
  };
  if (!options.ignoreRange) common["Accept-Ranges"] = "bytes";
  const range = options.ignoreRange
    ? undefined
    : wantedRange(request, { etag: options.etag, size: blob.size });
  if (range === "unsatisfiable") {
    const headers = { ...common, "Content-Range": `bytes */${blob.size}`, "Content-Length": "0" };
    return plainReply({ status: 416, headers });
  }
  const { start, end } = range ?? { start: 0, end: blob.size };
  const headers: Record<string, string> = { ...common, "Content-Length": String(end - start) };
  if (range !== undefined) headers["Content-Range"] = `bytes ${start}-${end - 1}/${blob.size}`;
  const body = blob.stream(start, end);
  return { reply: { status: range === undefined ? 200 : 206, headers, body }, bodyStart: start };
}

/** `end` is not included. Nothing when the whole file is wanted, or the range makes no sense. */
function wantedRange(
  request: WireRequest,
  options: { etag: string; size: number },
): { start: number; end: number } | "unsatisfiable" | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(request.headers.get("range") ?? "");
  if (match === null || match[0] === "bytes=-") return undefined;
  const condition = request.headers.get("if-range");
  if (condition !== null && condition !== options.etag) return undefined;
  const [, first, last] = match;
  const { size } = options;
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size : Math.min(size, Number(last) + 1);
  if (last !== "" && first !== "" && Number(last) < start) return undefined;
  return start >= end ? "unsatisfiable" : { start, end };
}
