/**
 * The error catalogue: every code that crosses the wire, its HTTP status, and the one envelope that carries it.
 * Nothing else in the project maps an error to a status.
 */
import * as z from "zod";
import { printable } from "./printable.ts";

/** Every error code with the HTTP status it is sent with. */
export const ERROR_STATUS = {
  INVALID_REQUEST: 400,
  BACKEND_UNAVAILABLE: 400,
  DEVICE_NOT_FOUND: 400,
  MISSING_API_KEY: 401,
  INVALID_API_KEY: 401,
  /** The key is a good one, and may not do this. */
  FORBIDDEN: 403,
  MODEL_ACCESS_DENIED: 403,
  NODE_NOT_FOUND: 404,
  WORKER_NOT_FOUND: 404,
  MODEL_NOT_FOUND: 404,
  DOWNLOAD_NOT_FOUND: 404,
  TASK_NOT_FOUND: 404,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  REQUEST_TIMEOUT: 408,
  LOADING_TIMEOUT: 408,
  VERSION_MISMATCH: 409,
  MODEL_IN_USE: 409,
  /** Another hive that is there reports to the queen under the same name. */
  NODE_NAME_TAKEN: 409,
  PAYLOAD_TOO_LARGE: 413,
  RATE_LIMITED: 429,
  QUEUE_FULL: 429,
  REQUEST_CANCELED: 499,
  INTERNAL: 500,
  DOWNLOAD_FAILED: 502,
  DOWNLOAD_TIMEOUT: 502,
  CHECKSUM_MISMATCH: 502,
  WORKER_CRASHED: 502,
  WORKER_START_FAILED: 502,
  /** Every worker that had the request was lost before it told anything: it is not tried again. */
  REQUEST_POISONED: 502,
  INVALID_MODEL: 502,
  ALL_SLOTS_BUSY: 503,
  /** Its files lie where nothing can be read at present: a mount that is gone, a folder without the right to enter. */
  MODEL_UNREACHABLE: 503,
  NODE_UNREACHABLE: 503,
  SHUTTING_DOWN: 503,
  NOT_READY: 503,
  INSUFFICIENT_RAM: 507,
  VRAM_EXHAUSTED: 507,
  INSUFFICIENT_DISK: 507,
  /** Client side only: no answer within the connect limit. Never sent by a server. */
  CONNECTION_TIMEOUT: 408,
} as const;

/** A code of the catalogue. */
export type ErrorCode = keyof typeof ERROR_STATUS;

/** Codes whose answer tells the caller when to come back. */
const DEFAULT_RETRY_AFTER_SECONDS: Partial<Record<ErrorCode, number>> = {
  ALL_SLOTS_BUSY: 1,
  MODEL_UNREACHABLE: 5,
  NODE_UNREACHABLE: 5,
  SHUTTING_DOWN: 5,
  NOT_READY: 1,
  RATE_LIMITED: 1,
  QUEUE_FULL: 1,
};

/** One violated constraint of a request; `field` is a dotted path (`messages.0.role`), empty for the whole body. */
export const FieldErrorSchema: z.ZodType<FieldError> = z.object({
  field: z.string(),
  constraint: z.string(),
  message: z.string(),
});
/** See {@linkcode FieldErrorSchema}. */
export interface FieldError {
  /** Dotted path of the field. */
  field: string;
  /** What is violated: `required`, `too_small`, `unknown`, … */
  constraint: string;
  /** The same in words; never echoes a prompt. */
  message: string;
}

/** The inside of the envelope, also what SSE streams carry as `{"error": …}`. */
export interface ErrorBody {
  /** A code of the catalogue; a string here, because a newer peer may know more codes. */
  code: string;
  /** What failed, with which value, what to do. */
  message: string;
  /** Facts for programs, by code. */
  details: Record<string, unknown>;
  /** Found again in the log of every hop. */
  correlation_id: string;
}

/** Lenient on purpose: an error from another version must still be shown. */
export const ErrorBodySchema: z.ZodType<ErrorBody> = z.looseObject({
  code: z.string(),
  message: z.string(),
  details: z.record(z.string(), z.unknown()).default({}),
  correlation_id: z.string().default(""),
}) as unknown as z.ZodType<ErrorBody>;

/** `{"error": …}`: the one body of every answer that is not a success. */
export const ErrorEnvelopeSchema: z.ZodType<{ error: ErrorBody }> = z.object({ error: ErrorBodySchema });

/** Options of {@linkcode RbeeError}. */
export interface RbeeErrorOptions {
  /** Facts for programs; goes over the wire, so never a secret and never a prompt. */
  details?: Record<string, unknown>;
  /** What was caught; logged, never sent. */
  cause?: unknown;
  /** Overrides the code's own `Retry-After`, in seconds. */
  retryAfterSeconds?: number;
  /** Set when the error came from another part, so that it keeps its id. */
  correlationId?: string;
}

/** An error that a person or a program is meant to see. Everything else thrown is a defect (`INTERNAL`). */
export class RbeeError extends Error {
  /** The catalogue's code. */
  readonly code: ErrorCode;
  /** See {@linkcode RbeeErrorOptions}. */
  readonly details: Record<string, unknown>;
  /** When to come back, in seconds, for codes that have it. */
  readonly retryAfterSeconds?: number;
  /** The id of the request that failed, once known. */
  readonly correlationId?: string;

  /** `message` says what failed, with which value, and what to do. */
  constructor(code: ErrorCode, message: string, options: RbeeErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = "RbeeError";
    this.code = code;
    this.details = options.details ?? {};
    this.retryAfterSeconds = options.retryAfterSeconds ?? DEFAULT_RETRY_AFTER_SECONDS[code];
    this.correlationId = options.correlationId;
  }

  /** The HTTP status of this error's code. */
  get status(): number {
    return ERROR_STATUS[this.code];
  }

  /** The wire form. `correlationId` is used unless the error came with its own. */
  toBody(correlationId: string): ErrorBody {
    const body = {
      code: this.code,
      message: this.message,
      details: this.details,
      correlation_id: this.correlationId ?? correlationId,
    };
    // SPEC §5: slots_total and slots_busy stand in `error` itself as well.
    return this.code === "ALL_SLOTS_BUSY" ? { ...this.details, ...body } : body;
  }
}

/** Whether nobody answered a call at all: no connection, or nothing in time. */
export function isSilence(error: unknown): error is RbeeError {
  return error instanceof RbeeError &&
    (error.code === "NODE_UNREACHABLE" || error.code === "CONNECTION_TIMEOUT");
}

/** Whether `code` is one of the catalogue. */
export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_STATUS, code);
}

/**
 * Turns a received error body back into an error; an unknown code becomes `INTERNAL` with the code in its details.
 * `retryAfterSeconds` is what the answer's header said.
 */
export function errorFromBody(body: ErrorBody, retryAfterSeconds?: number): RbeeError {
  const options = { details: body.details, correlationId: body.correlation_id, retryAfterSeconds };
  if (isErrorCode(body.code)) return new RbeeError(body.code, body.message, options);
  return new RbeeError("INTERNAL", body.message, {
    ...options,
    details: { ...body.details, code: body.code },
  });
}

/** Any thrown value as an {@linkcode RbeeError}; what was not meant to be seen becomes `INTERNAL` without its text. */
export function toRbeeError(thrown: unknown): RbeeError {
  if (thrown instanceof RbeeError) return thrown;
  return new RbeeError(
    "INTERNAL",
    "An internal error occurred. The log has the details under this correlation id.",
    {
      cause: thrown,
    },
  );
}

/** Most field errors of one answer: a body of a million unknown keys is not answered with a million lines. */
export const MAX_FIELD_ERRORS = 100;
/** Longest field path of one; the rest is cut off. */
export const MAX_FIELD_CHARS = 200;

/** The error for input that fails its schema: names every bad field at once, echoes no value. */
export function invalidRequest(error: z.ZodError, what = "The request"): RbeeError {
  const all = fieldErrors(error);
  const errors = all.slice(0, MAX_FIELD_ERRORS);
  const named = errors.map((e) => `${printable(e.field) || "body"}: ${e.message}`);
  if (all.length > errors.length) named.push(`and ${all.length - errors.length} more`);
  return new RbeeError("INVALID_REQUEST", `${what} is not valid: ${named.join("; ")}`, {
    details: { errors },
  });
}

/** The violated constraints of a failed parse, flat and in wire form. */
export function fieldErrors(error: z.ZodError): FieldError[] {
  return error.issues.flatMap((issue) => {
    const field = dotted(issue.path);
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({
        field: dotted([...issue.path, key]),
        constraint: "unknown",
        message: "is not a known field",
      }));
    }
    // The parse must have been told to report its input: without it nothing says what was missing.
    const missing = issue.code === "invalid_type" && "input" in issue && issue.input === undefined;
    // Why a key is bad stands one level deeper.
    const message = issue.code === "invalid_key" ? issue.issues[0]?.message ?? issue.message : issue.message;
    return [{ field, constraint: missing ? "required" : issue.code ?? "invalid", message }];
  });
}

function dotted(path: readonly PropertyKey[]): string {
  return path.map(String).join(".").slice(0, MAX_FIELD_CHARS);
}
