/** Sends one entry of the corpus to a worker, and says what came of it. */
import { delay } from "@std/async";
import { FOREIGN_ROUTES, routePath, WORKER_ROUTES } from "../../protocol/routes.ts";
import { eventually } from "../helpers/eventually.ts";
import type { ConnectionsEntry, RequestEntry, Right, StateEntry } from "./entry.ts";
import { readState, writeState } from "./states.ts";

/** A worker, or whatever else takes requests. */
export interface Target {
  url: string;
  key: string;
}

/** What came of an entry. */
export interface Outcome {
  what: "answered" | "refused" | "cut off" | "left" | "stuck" | "failed";
  /** The error's code, or the HTTP status where there is none. */
  code?: string;
  /** The error's message, its beginning. */
  message?: string;
  ms: number;
}

/** How to send. */
export interface Sending {
  /** An answer that sends nothing for this long counts as stuck. */
  limitMs: number;
  /** The client disconnects after this time. */
  leaveAfterMs?: number;
  /** It leaves by `DELETE`, where the route has one, and not by closing the connection. */
  byDelete?: boolean;
  signal?: AbortSignal;
}

/** A body above this may be refused before it was read; the caller then sees a connection that is cut off. */
const LARGE_BODY_BYTES = 256 * 1024;
const MESSAGE_CHARACTERS = 120;
/** Error codes that mean "no capacity now". */
const NO_ROOM = new Set(["ALL_SLOTS_BUSY", "QUEUE_FULL", "RATE_LIMITED"]);

/** Sends one request. Never throws. */
export async function sendRequest(target: Target, entry: RequestEntry, sending: Sending): Promise<Outcome> {
  return await post(target, { path: entry.path, body: entry.body() }, sending);
}

/** Posts a body; see {@linkcode sendRequest}. */
export async function post(
  target: Target,
  { path, body }: { path: string; body: string | Uint8Array<ArrayBuffer> },
  sending: Sending,
): Promise<Outcome> {
  const startedMs = performance.now();
  const ms = () => performance.now() - startedMs;
  const leave = new AbortController();
  const stuck = new AbortController();
  let late = setTimeout(() => stuck.abort(), sending.limitMs);
  const cameSome = () => {
    clearTimeout(late);
    late = setTimeout(() => stuck.abort(), sending.limitMs);
  };
  const ended = new AbortController();
  const requestId = sending.byDelete && path === WORKER_ROUTES.inference.path && typeof body === "string" &&
      body.startsWith('{"prompt"')
    ? crypto.randomUUID()
    : undefined;
  const leaving = sending.leaveAfterMs === undefined ? undefined : (async () => {
    await delay(sending.leaveAfterMs!, { signal: ended.signal }).catch(() => {});
    if (ended.signal.aborted) return;
    if (requestId === undefined) return leave.abort();
    await fetch(new URL(routePath(WORKER_ROUTES.cancel, { request_id: requestId }), target.url), {
      method: "DELETE",
      headers: { Authorization: `Bearer ${target.key}` },
    }).then((answer) => answer.body?.cancel(), () => {});
  })();
  try {
    const response = await fetch(new URL(path, target.url), {
      method: "POST",
      headers: {
        "Authorization": `Bearer ${target.key}`,
        "Content-Type": typeof body === "string" ? "application/json" : "application/octet-stream",
      },
      body: requestId === undefined ? body : `{"request_id":"${requestId}",${(body as string).slice(1)}`,
      signal: AbortSignal.any([leave.signal, stuck.signal, ...sending.signal ? [sending.signal] : []]),
    });
    return { ...await read(response, cameSome), ms: ms() };
  } catch (error) {
    if (stuck.signal.aborted) return { what: "stuck", ms: ms() };
    if (leave.signal.aborted || sending.signal?.aborted) return { what: "left", ms: ms() };
    const large = body.length > LARGE_BODY_BYTES;
    return {
      what: large ? "cut off" : "failed",
      message: String(error).slice(0, MESSAGE_CHARACTERS),
      ms: ms(),
    };
  } finally {
    clearTimeout(late);
    ended.abort();
    await leaving;
  }
}

/** Reads an answer to its end. One whose status was fine may still end with an error. */
async function read(response: Response, cameSome: () => void): Promise<Omit<Outcome, "ms">> {
  if (!response.ok) return refusal(await response.text(), response.status);
  let last = "";
  let failure: string | undefined;
  const lines = (text: string) => {
    for (const line of text.split("\n")) {
      if (/^(?:data: )?\{.*"error":\s*(?:\{|")/.test(line)) failure = line.replace(/^data: /, "");
    }
  };
  const streamed = /event-stream|ndjson/.test(response.headers.get("Content-Type") ?? "");
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    cameSome();
    if (!streamed) continue;
    const text = last + chunk;
    const end = text.lastIndexOf("\n") + 1;
    lines(text.slice(0, end));
    last = text.slice(end);
  }
  lines(last);
  return failure === undefined ? { what: "answered" } : refusal(failure, 200);
}

function refusal(body: string, status: number): Omit<Outcome, "ms"> {
  const code = /"code":\s*"([A-Z_]+)"/.exec(body)?.[1] ?? String(status);
  const message = (/"(?:message|error)":\s*"((?:[^"\\]|\\.)*)"/.exec(body)?.[1] ?? body).slice(
    0,
    MESSAGE_CHARACTERS,
  );
  const blamesCaller = status >= 400 && status < 500 || NO_ROOM.has(code) ||
    status === 200 && (code === "INVALID_REQUEST" || code === "REQUEST_TIMEOUT");
  return { what: blamesCaller ? "refused" : "failed", code, message };
}

/** What is wrong with an outcome; undefined when nothing is. */
export function wrong(outcome: Outcome, right: Right): string | undefined {
  const { what, code, message = "", ms } = outcome;
  const told = `${what}${code ? ` with ${code}` : ""} after ${ms.toFixed(0)} ms: ${message}`;
  if (what === "stuck" || what === "failed") return told;
  if (right === "answered" && what !== "answered" && what !== "left") return told;
  if (right === "refused" && what === "answered") return told;
}

/** An answer in the middle of its generation, taken from a worker. */
export async function exportedState(target: Target): Promise<Uint8Array<ArrayBuffer>> {
  const id = crypto.randomUUID();
  const answer = await fetch(new URL(WORKER_ROUTES.inference.path, target.url), {
    method: "POST",
    headers: { "Authorization": `Bearer ${target.key}`, "Content-Type": "application/json" },
    body: JSON.stringify({
      prompt: "Once upon a time",
      max_tokens: 400,
      seed: 1,
      request_id: id,
      logit_bias: NO_END,
    }),
  });
  const reader = answer.body!.getReader();
  await reader.read();
  const state = await fetch(new URL(routePath(WORKER_ROUTES.export, { request_id: id }), target.url), {
    method: "POST",
    headers: { "Authorization": `Bearer ${target.key}`, "Content-Type": "application/json" },
    body: "{}",
  });
  const bytes = await state.bytes();
  await reader.cancel();
  if (!state.ok) throw new Error(`No answer could be exported: ${new TextDecoder().decode(bytes)}`);
  return bytes;
}

/** Tokens that would end a story, never chosen. */
export const NO_END = [0, 1, 2, 3, 4, 5].map((token) => ({ token, bias: -1000 }));

/** Sends an exported answer that was tampered with. */
export async function sendState(
  target: Target,
  { entry, state }: { entry: StateEntry; state: Uint8Array<ArrayBuffer> },
  sending: Sending,
): Promise<Outcome> {
  const tampered = entry.tamper(readState(state));
  const body = tampered instanceof Uint8Array ? tampered : await writeState(tampered);
  return await post(target, { path: WORKER_ROUTES.resume.path, body }, sending);
}

/** Opens the connections of an entry, holds them, and closes them. Whether they are cut before is the worker's choice. */
export async function sendConnections(target: Target, entry: ConnectionsEntry): Promise<Outcome> {
  const startedMs = performance.now();
  const { hostname, port } = new URL(target.url);
  const bytes = Uint8Array.from(entry.bytes(target.key), (character) => character.charCodeAt(0));
  const connections: Deno.TcpConn[] = [];
  let refused = 0;
  await Promise.all(
    Array.from({ length: entry.count }, async () => {
      try {
        const connection = await Deno.connect({ hostname, port: Number(port) });
        connections.push(connection);
        for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
      } catch {
        refused++;
      }
    }).map((opened) => Promise.race([opened, delay(entry.holdMs)])),
  );
  await delay(entry.holdMs);
  for (const connection of connections) {
    try {
      connection.close();
    } catch {
      // Cut already.
    }
  }
  return { what: refused > 0 ? "cut off" : "answered", ms: performance.now() - startedMs };
}

/** Slots of a worker that are taken, and how many there are. */
export async function slots(target: Target): Promise<{ busy: number; total: number }> {
  const response = await fetch(new URL(WORKER_ROUTES.ready.path, target.url), {
    headers: { Authorization: `Bearer ${target.key}` },
    signal: AbortSignal.timeout(5_000),
  });
  const { slots_total: total = 0, slots_available: free = 0 } = await response.json();
  return { busy: total - free, total };
}

/** How long it takes until no more than `busy` slots are taken. */
export async function freedMs(target: Target, busy: number, limitMs: number): Promise<number> {
  const startedMs = performance.now();
  await eventually("the slot is free", async () => (await slots(target)).busy <= busy, limitMs);
  return performance.now() - startedMs;
}

/** Whether a worker answers at all. */
export async function alive(target: Target, limitMs: number): Promise<boolean> {
  try {
    const response = await fetch(new URL(FOREIGN_ROUTES.models.path, target.url), {
      headers: { Authorization: `Bearer ${target.key}` },
      signal: AbortSignal.timeout(limitMs),
    });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
