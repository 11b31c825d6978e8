// What can go wrong with a download, as changes to an answer that was right.

import { setTimeout as pause } from "node:timers/promises";
import type { HubContent } from "./hub_content.ts";
import type { WireReply } from "./wire_server.ts";

/** One misbehaviour. Byte counts are of this answer's body; `flip` counts in the file. */
export type HubFault =
  /** TCP reset after that many body bytes (the last of them may be lost on the way). */
  | { readonly kind: "reset"; readonly afterBytes: number }
  /** Reset before any answer. A client may by itself ask again if the connection was one it had kept. */
  | { readonly kind: "hang_up" }
  /** Orderly close after that many body bytes, fewer than `Content-Length` said. */
  | { readonly kind: "truncate"; readonly afterBytes: number }
  /** As if the file were that much longer (zeros) or shorter, in `Content-Length` and body alike. */
  | { readonly kind: "wrong_length"; readonly deltaBytes: number }
  /** The byte at this offset of the file comes inverted. */
  | { readonly kind: "flip"; readonly atByte: number }
  /** Nothing more after that many body bytes, until `release` is called or the client leaves. */
  | { readonly kind: "stall"; readonly afterBytes: number }
  | { readonly kind: "drip"; readonly bytesPerSecond: number }
  /** Another answer altogether; `retryAfter` is the header's value as it stands. */
  | { readonly kind: "status"; readonly status: number; readonly retryAfter?: string }
  /** `Range` is ignored: 200 with the whole file. */
  | { readonly kind: "no_range" }
  /** From this request on, the file under the same address has other content and another `ETag`. */
  | { readonly kind: "change"; readonly content: HubContent };

/** What a request asks for: a model's facts, a file list, where a file is, or its bytes. */
export type HubPurpose = "info" | "tree" | "resolve" | "content" | "other";

/** Which requests a fault is for. Default: `GET`s of content. */
export interface FaultTarget {
  readonly purpose?: HubPurpose;
  readonly method?: "GET" | "HEAD";
  /** Part of the file's path in its repository. */
  readonly path?: string;
}

/** What `FaultPlan` looks at. */
export interface FaultableRequest {
  readonly purpose: HubPurpose;
  readonly method: string;
  readonly path?: string;
}

/** Faults waiting for the requests they are meant for, each used up in the order it was added. */
export class FaultPlan {
  #waiting: { fault: HubFault; target: FaultTarget; left: number }[] = [];

  /** Spoils the next `times` (default 1) requests that match. */
  add(fault: HubFault, options: FaultTarget & { times?: number } = {}): void {
    const { times = 1, ...target } = options;
    this.#waiting.push({ fault, target: { purpose: "content", method: "GET", ...target }, left: times });
  }

  /** Forgets every fault that has not struck yet. */
  clear(): void {
    this.#waiting = [];
  }

  /** Requests still to be spoiled; infinite if a fault has no end. */
  get pending(): number {
    return this.#waiting.reduce((sum, { left }) => sum + left, 0);
  }

  /** Takes the fault for this request, if any. */
  take(request: FaultableRequest): HubFault | undefined {
    const index = this.#waiting.findIndex(({ target }) =>
      target.purpose === request.purpose && target.method === request.method &&
      (target.path === undefined || request.path?.includes(target.path) === true)
    );
    if (index === -1) return undefined;
    const entry = this.#waiting[index];
    if (--entry.left <= 0) this.#waiting.splice(index, 1);
    return entry.fault;
  }
}

/** What spoiling an answer needs to know. */
export interface SpoilOptions {
  readonly fault: HubFault;
  /** Offset in the file of the body's first byte. */
  readonly bodyStart: number;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
  /** Called when a stall begins; resolves when it is to end, or the client is gone. */
  readonly stalled: () => Promise<void>;
}

/** `reply` with the fault in it. `change` and `no_range` must have been heeded when the reply was made. */
export function spoil(reply: WireReply, options: SpoilOptions): WireReply {
  const { fault, signal } = options;
  const body = reply.body ?? empty();
  switch (fault.kind) {
    case "reset":
      return { ...reply, body: take(body, fault.afterBytes), ending: "reset" };
    case "hang_up":
      return { ...reply, body: undefined, headless: true, ending: "reset" };
    case "truncate":
      return { ...reply, body: take(body, fault.afterBytes), ending: "close" };
    case "wrong_length": {
      const length = Number(reply.headers["Content-Length"]) + fault.deltaBytes;
      const headers = { ...reply.headers, "Content-Length": String(length) };
      return { ...reply, headers, body: take(padded(body), length) };
    }
    case "flip":
      return { ...reply, body: flipped(body, fault.atByte - options.bodyStart) };
    case "stall":
      return { ...reply, body: stalling(body, { ...options, afterBytes: fault.afterBytes }) };
    case "drip":
      return { ...reply, body: paced(body, { bytesPerSecond: fault.bytesPerSecond, signal }) };
    case "status": {
      const headers: Record<string, string> = { "Content-Length": "0" };
      if (fault.retryAfter !== undefined) headers["Retry-After"] = fault.retryAfter;
      return { status: fault.status, headers };
    }
    case "change":
    case "no_range":
      return reply;
  }
}

const DRIP_INTERVAL_MS = 20;

/** At most so many bytes per second, in small pieces. Ends early when the client leaves. */
export async function* paced(
  body: AsyncIterable<Uint8Array>,
  options: { bytesPerSecond: number; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const { bytesPerSecond, signal } = options;
  const pieceBytes = Math.max(1, Math.floor(bytesPerSecond * DRIP_INTERVAL_MS / 1000));
  const started = performance.now();
  let sentBytes = 0;
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += pieceBytes) {
      const piece = chunk.subarray(at, at + pieceBytes);
      sentBytes += piece.length;
      const dueMs = sentBytes / bytesPerSecond * 1000 - (performance.now() - started);
      if (dueMs > 0) await pause(dueMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      yield piece;
    }
  }
}

async function* empty(): AsyncGenerator<Uint8Array> {}

async function* take(body: AsyncIterable<Uint8Array>, lengthBytes: number): AsyncGenerator<Uint8Array> {
  let left = lengthBytes;
  if (left <= 0) return;
  for await (const chunk of body) {
    yield chunk.subarray(0, left);
    left -= chunk.length;
    if (left <= 0) return;
  }
}

async function* padded(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* body;
  while (true) yield new Uint8Array(1024);
}

async function* flipped(body: AsyncIterable<Uint8Array>, atByte: number): AsyncGenerator<Uint8Array> {
  let offset = 0;
  for await (const chunk of body) {
    const index = atByte - offset;
    offset += chunk.length;
    yield index >= 0 && index < chunk.length ? chunk.slice().fill(~chunk[index], index, index + 1) : chunk;
  }
}

async function* stalling(
  body: AsyncIterable<Uint8Array>,
  options: { afterBytes: number; signal: AbortSignal; stalled: () => Promise<void> },
): AsyncGenerator<Uint8Array> {
  let left = options.afterBytes;
  for await (const chunk of body) {
    if (left >= 0 && chunk.length > left) {
      yield chunk.subarray(0, left);
      await options.stalled();
      if (options.signal.aborted) return;
      yield chunk.subarray(left);
      left = -1;
    } else {
      yield chunk;
      left -= chunk.length;
    }
  }
}
