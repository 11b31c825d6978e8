/** Request bodies: read within a size and a time, then checked. */
import type * as z from "zod";
import { concatBytes } from "../protocol/bytes.ts";
import { invalidRequest, RbeeError } from "../protocol/errors.ts";
import { nextTurn } from "./clock.ts";
import { JsonCounter } from "./json_bounds.ts";

/** Of one body, before others have their turn. */
const BYTES_PER_TURN = 512 * 1024;

/** Options of {@linkcode readBody}. */
export interface ReadBodyOptions<T> {
  /** What the body must be. */
  schema: z.ZodType<T>;
  /** Largest body. */
  maxBytes: number;
  /** Most values in it. */
  maxValues: number;
  /** Longest time from now until its last byte. */
  timeoutMs: number;
  /** Called with the size of each chunk before it is kept; may throw to refuse the body. */
  onBytes?: (bytes: number) => void;
}

/**
 * Reads a JSON body and checks it. An empty body counts as `{}`. Counted and decoded as it comes, so that a large one
 * does not keep others waiting at its end.
 *
 * @throws {RbeeError} `INVALID_REQUEST`, `PAYLOAD_TOO_LARGE`, `REQUEST_TIMEOUT` when it takes too long,
 * `REQUEST_CANCELED` when its sender went away.
 */
export async function readBody<T>(request: Request, options: ReadBodyOptions<T>): Promise<T> {
  const counter = new JsonCounter(options);
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  const decode = (chunk?: Uint8Array<ArrayBuffer>) => {
    try {
      text += decoder.decode(chunk, { stream: chunk !== undefined });
    } catch {
      throw noJson("no valid UTF-8");
    }
  };
  await readChunks(request, {
    ...options,
    onChunk: (chunk) => {
      counter.push(chunk);
      decode(chunk);
    },
  });
  decode();
  return checkedBody(jsonOf(text), options.schema);
}

function jsonOf(text: string): unknown {
  if (!/\S/.test(text)) return {};
  try {
    return JSON.parse(text);
  } catch {
    throw noJson("no valid JSON");
  }
}

function noJson(why: string): RbeeError {
  return new RbeeError("INVALID_REQUEST", `The body is ${why}.`, {
    details: { errors: [{ field: "", constraint: "json", message: `is ${why}` }] },
  });
}

/**
 * What a body must be.
 *
 * @throws {RbeeError} `INVALID_REQUEST` naming every field that is not as it should be.
 */
export function checkedBody<T>(json: unknown, schema: z.ZodType<T>): T {
  const result = schema.safeParse(json, { reportInput: true });
  if (result.success) return result.data;
  throw invalidRequest(result.error);
}

/** Within what a body is read. */
interface ReadLimits {
  maxBytes: number;
  timeoutMs: number;
  onBytes?: (bytes: number) => void;
}

/**
 * Reads a body as it stands.
 *
 * @throws {RbeeError} `PAYLOAD_TOO_LARGE`, `REQUEST_TIMEOUT`, `REQUEST_CANCELED`, as {@linkcode readBody}.
 */
export async function readBytes(request: Request, limits: ReadLimits): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  await readChunks(request, { ...limits, onChunk: (chunk) => void chunks.push(chunk) });
  return concatBytes(chunks);
}

async function readChunks(
  request: Request,
  how: ReadLimits & { onChunk: (chunk: Uint8Array<ArrayBuffer>) => void },
): Promise<void> {
  const { maxBytes, timeoutMs, onBytes, onChunk } = how;
  if (request.body === null) return;
  const declared = Number(request.headers.get("Content-Length") ?? 0);
  const reader = request.body.getReader();
  let total = 0;
  let sinceTurn = 0;
  let late = false;
  // Whatever ends the reading early, the rest of the body is let go of; that it may be gone already is no matter.
  const letGo = () => void reader.cancel().catch(() => {});
  const timer = setTimeout(() => {
    late = true;
    letGo();
  }, timeoutMs);
  try {
    while (declared <= maxBytes) {
      const { done, value } = await reader.read();
      if (done) break;
      total += value.length;
      if (total > maxBytes) break;
      onBytes?.(value.length);
      onChunk(value);
      // What has arrived already comes chunk after chunk without a turn of the event loop in between.
      sinceTurn += value.length;
      if (sinceTurn < BYTES_PER_TURN) continue;
      sinceTurn = 0;
      await nextTurn();
    }
  } catch (cause) {
    if (cause instanceof RbeeError) {
      letGo();
      throw cause;
    }
    if (!late) throw new RbeeError("REQUEST_CANCELED", "The body broke off before its end.", { cause });
  } finally {
    clearTimeout(timer);
  }
  if (late) {
    throw new RbeeError("REQUEST_TIMEOUT", `The body did not arrive within ${timeoutMs / 1000} seconds.`);
  }
  if (declared > maxBytes || total > maxBytes) {
    letGo();
    throw new RbeeError("PAYLOAD_TOO_LARGE", `The body is larger than ${maxBytes} bytes.`, {
      details: { limit_bytes: maxBytes },
    });
  }
}
