/** What the addon throws, as an error of the catalogue. */
import { type ErrorCode, isErrorCode, RbeeError } from "../../protocol/errors.ts";
import type { NativeError } from "./addon.ts";

/** A code that the catalogue does not know is a defect. */
export function fromNative(error: unknown): RbeeError {
  if (error instanceof RbeeError) return error;
  const { code, message, native } = error as NativeError;
  const known: ErrorCode = isErrorCode(code) ? code : "INTERNAL";
  return new RbeeError(known, message, { details: native ? { native } : {}, cause: error });
}

/** Calls into the addon. */
export function unwrap<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromNative(error);
  }
}
