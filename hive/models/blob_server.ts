/** Hands a file of the cache to another hive: whole, or the part that it asks for. */
import { RbeeError } from "../../protocol/errors.ts";
import { BLOB_STALL_TIMEOUT_MS } from "./limits.ts";

const PIECE_BYTES = 1024 * 1024;
const RANGE = /^bytes=(\d{1,15})-(\d{1,15})?$/;

/**
 * The answer to a GET of the file at `path`, whose content has this digest. A `Range` of one part is honoured unless
 * `If-Range` names another content; any other kind of range gets the whole file. The file is read as fast as the
 * other side takes it, a piece at a time.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND` when the file went away meanwhile.
 */
export async function serveBlob(
  request: Request,
  blob: { path: string; digestHex: string },
): Promise<Response> {
  const file = await Deno.open(blob.path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new RbeeError("MODEL_NOT_FOUND", "The file of this digest is not there any more.");
  });
  try {
    const { size } = await file.stat();
    const etag = `"${blob.digestHex}"`;
    const headers = new Headers({
      ...{ "Accept-Ranges": "bytes", "ETag": etag, "Content-Type": "application/octet-stream" },
    });
    const ifRange = request.headers.get("If-Range");
    const asked = ifRange === null || ifRange === etag
      ? RANGE.exec(request.headers.get("Range") ?? "")
      : null;
    if (asked === null) {
      headers.set("Content-Length", String(size));
      return new Response(pieces(file, { start: 0, end: size }), { headers });
    }
    const start = Number(asked[1]);
    const end = Math.min(size, asked[2] === undefined ? size : Number(asked[2]) + 1);
    if (start >= end) {
      file.close();
      headers.set("Content-Range", `bytes */${size}`);
      return new Response(null, { status: 416, headers });
    }
    headers.set("Content-Range", `bytes ${start}-${end - 1}/${size}`);
    headers.set("Content-Length", String(end - start));
    return new Response(pieces(file, { start, end }), { status: 206, headers });
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Closes the file at the end, and when nobody reads on. */
function pieces(file: Deno.FsFile, range: { start: number; end: number }): ReadableStream<Uint8Array> {
  let at = range.start;
  let stalled: ReturnType<typeof setTimeout> | undefined;
  const close = () => {
    clearTimeout(stalled);
    file.close();
  };
  return new ReadableStream({
    async start() {
      await file.seek(range.start, Deno.SeekMode.Start);
    },
    async pull(controller) {
      clearTimeout(stalled);
      const piece = new Uint8Array(Math.min(PIECE_BYTES, range.end - at));
      const count = await file.read(piece);
      if (count === null) {
        close();
        return controller.error(new Error(`The file ends at byte ${at}.`));
      }
      at += count;
      controller.enqueue(piece.subarray(0, count));
      if (at === range.end) {
        close();
        controller.close();
        return;
      }
      stalled = setTimeout(() => {
        close();
        controller.error(new Error("The reader has taken nothing for too long."));
      }, BLOB_STALL_TIMEOUT_MS);
    },
    cancel: close,
  }, { highWaterMark: 0 });
}
