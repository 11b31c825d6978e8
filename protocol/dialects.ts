/**
 * The shapes of errors in the interfaces of others: on their routes clients that nobody here wrote read them. The
 * catalogue's code and status stay what they are.
 */
import type { RbeeError } from "./errors.ts";

/** Whose shapes a route speaks. */
export type Dialect = "rbee" | "openai" | "anthropic" | "ollama";

/** OpenAI's and Anthropic's names for kinds of errors, by HTTP status; every other below 500 is the first. */
const ERROR_TYPES: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
};
/** What Anthropic calls a server that has no room. */
const OVERLOADED_STATUS = 503;

/** An error as a route's clients expect it, in answers and in streams. */
export function errorIn(dialect: Dialect, error: RbeeError, correlationId: string): Record<string, unknown> {
  const body = error.toBody(correlationId);
  switch (dialect) {
    case "rbee":
      return { error: body };
    case "openai":
      return {
        error: {
          message: error.message,
          type: ERROR_TYPES[error.status] ?? (error.status < 500 ? ERROR_TYPES[400] : "server_error"),
          param: firstField(error),
          code: error.code,
          correlation_id: body.correlation_id,
        },
      };
    case "anthropic":
      return {
        type: "error",
        error: { type: anthropicType(error.status), message: error.message, code: error.code },
        request_id: body.correlation_id,
      };
    case "ollama":
      return { error: error.message, code: error.code };
  }
}

function anthropicType(status: number): string {
  if (status === OVERLOADED_STATUS) return "overloaded_error";
  return ERROR_TYPES[status] ?? (status < 500 ? ERROR_TYPES[400] : "api_error");
}

/** The first field that is not as it should be. */
function firstField(error: RbeeError): string | null {
  const errors = error.details.errors;
  const field = Array.isArray(errors) ? errors[0]?.field : undefined;
  return typeof field === "string" && field !== "" ? field : null;
}
