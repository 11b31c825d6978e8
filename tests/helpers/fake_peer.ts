/** A hive with one model, as far as another hive can see of it: honest unless told otherwise. */
import { createHash } from "node:crypto";
import type { ModelOffer } from "../../protocol/hive_schemas.ts";

/** How one begins. */
export interface FakePeerOptions {
  /** The model's only file. */
  content: Uint8Array;
  /** Within `acme/tiny`. Default: `tiny-Q4_K_M.gguf`. */
  path?: string;
  /** Default: {@linkcode PEER_COMMIT}. */
  commit?: string;
  /** What is answered in place of the honest offer. */
  offer?: (honest: ModelOffer, request: Request) => PeerReply;
  /** What is answered in place of the part that was asked for. */
  blob?: (honest: PeerPart, request: Request) => PeerReply;
}

/** JSON, or an answer of another kind. */
export type PeerReply = Response | object | Promise<Response | object>;

/** A part of the file, with the headers that go with it. */
export interface PeerPart {
  bytes: Uint8Array<ArrayBuffer>;
  headers: Headers;
}

/** A request that came. */
export interface PeerRequest {
  /** With query. */
  target: string;
  headers: Headers;
  /** Its sender did not wait for the answer. */
  left: boolean;
}

/** See {@linkcode startPeer}. */
export interface FakePeer extends AsyncDisposable {
  url: string;
  /** What opens it. */
  key: string;
  /** SHA-256 of the content. */
  digest: string;
  /** In order of arrival, those with a wrong key included. */
  requests: PeerRequest[];
  /** Those for bytes. */
  blobRequests(): PeerRequest[];
}

/** The commit that it says its model is of. */
export const PEER_COMMIT = "c0ffee".padEnd(40, "0");

/** Starts one on a free port of 127.0.0.1. */
export function startPeer(options: FakePeerOptions): FakePeer {
  const { content, path = "tiny-Q4_K_M.gguf", commit = PEER_COMMIT } = options;
  const key = `key-of-peer-${crypto.randomUUID()}`;
  const digest = createHash("sha256").update(content).digest("hex");
  const requests: PeerRequest[] = [];
  const honest: ModelOffer = {
    ...{ repo: "acme/tiny", revision: "main", commit, companions: [] },
    files: [{ path, size: content.length, digest: { algorithm: "sha256", hex: digest } }],
  };
  const reply = (request: Request): PeerReply => {
    const { pathname } = new URL(request.url);
    if (request.headers.get("Authorization") !== `Bearer ${key}`) return new Response(null, { status: 401 });
    if (pathname === "/v1/models/offer") return options.offer?.(honest, request) ?? honest;
    if (pathname !== `/v1/models/blobs/${digest}`) return new Response(null, { status: 404 });
    const part = partOf(content, request.headers.get("Range"));
    return options.blob?.(part, request) ?? new Response(part.bytes, { status: 206, headers: part.headers });
  };
  const ending = new AbortController();
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, signal: ending.signal, onListen: () => {}, onError: () => failed() },
    async (request) => {
      const { pathname, search } = new URL(request.url);
      const record = { target: pathname + search, headers: request.headers, left: false };
      requests.push(record);
      request.signal.addEventListener("abort", () => record.left = true);
      const answer = await reply(request);
      return answer instanceof Response ? answer : Response.json(answer);
    },
  );
  return {
    ...{ url: `http://127.0.0.1:${server.addr.port}`, key, digest, requests },
    blobRequests: () => requests.filter(({ target }) => target.startsWith("/v1/models/blobs/")),
    async [Symbol.asyncDispose]() {
      ending.abort();
      await server.finished;
    },
  };
}

/** An answer that comes only when nobody waits for it any more. */
export function silence(request: Request): Promise<Response> {
  return new Promise((resolve) => request.signal.addEventListener("abort", () => resolve(failed())));
}

/** The first bytes of a part; then the connection is cut. */
export function cutShort({ bytes, headers }: PeerPart, keptBytes: number): Response {
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(bytes.subarray(0, keptBytes)),
    pull: (controller) => controller.error(new Error("the peer dies")),
  }, { highWaterMark: 0 });
  return new Response(body, { status: 206, headers });
}

function partOf(content: Uint8Array, range: string | null): PeerPart {
  const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? ["", "0", String(content.length - 1)];
  const bytes = content.slice(Number(start), Number(last) + 1);
  return {
    bytes,
    headers: new Headers({
      "Content-Range": `bytes ${start}-${last}/${content.length}`,
      "Content-Length": String(bytes.length),
    }),
  };
}

function failed(): Response {
  return new Response(null, { status: 500 });
}
