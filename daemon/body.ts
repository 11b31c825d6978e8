/** Request bodies: read within a size and a time, then checked. */
import type * as z from "zod";
import { concatBytes } from "../protocol/bytes.ts";
import { invalidRequest, RbeeError } from "../protocol/errors.ts";
import { requireBoundedJson } from "./json_bounds.ts";

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
 * Reads a JSON body and checks it. An empty body counts as `{}`.
 *
 * @throws {RbeeError} `INVALID_REQUEST`, `PAYLOAD_TOO_LARGE`, `REQUEST_TIMEOUT` when it takes too long,
 * `REQUEST_CANCELED` when its sender went away.
 */
export async function readBody<T>(request: Request, options: ReadBodyOptions<T>): Promise<T> {
  const bytes = await readBytes(request, options);
  requireBoundedJson(bytes, options);
  let json: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    json = text.trim() === "" ? {} : JSON.parse(text);
  } catch (error) {
    const why = error instanceof SyntaxError ? "no valid JSON" : "no valid UTF-8";
    throw new RbeeError("INVALID_REQUEST", `The body is ${why}.`, {
      details: { errors: [{ field: "", constraint: "json", message: `is ${why}` }] },
    });
  }
  return checkedBody(json, options.schema);
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

/**
 * Reads a body as it stands.
 *
 * @throws {RbeeError} `PAYLOAD_TOO_LARGE`, `REQUEST_TIMEOUT`, `REQUEST_CANCELED`, as {@linkcode readBody}.
 */
export async function readBytes(
  request: Request,
  limits: { maxBytes: number; timeoutMs: number; onBytes?: (bytes: number) => void },
): Promise<Uint8Array<ArrayBuffer>> {
  const { maxBytes, timeoutMs, onBytes } = limits;
  if (request.body === null) return new Uint8Array();
  const declared = Number(request.headers.get("Content-Length") ?? 0);
  const reader = request.body.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  let late = false;
  // Whatever ends the reading early, the rest of the body is let go of; that it may be gone already is no matter.
  const letGo = () => void reader.cancel().catch(() => {});
  const timer = setTimeout(() => {
    late = true;
    letGo();
  }, timeoutMs);
  try {
    while (declared <= maxBytes && total <= maxBytes) {
      const { done, value } = await reader.read();
      if (done) break;
      total += value.length;
      onBytes?.(value.length);
      chunks.push(value);
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
  return concatBytes(chunks);
}
