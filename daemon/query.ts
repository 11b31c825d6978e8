/** Query strings, checked like bodies. */
import type * as z from "zod";
import { invalidRequest, RbeeError } from "../protocol/errors.ts";

/**
 * The parameters of a query by its schema.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for what the schema refuses and for a parameter that is given twice.
 */
export function queryOf<T>(query: URLSearchParams, schema: z.ZodType<T>): T {
  const names = [...query.keys()];
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    const field = twice.slice(0, 64);
    throw new RbeeError("INVALID_REQUEST", "The query names a parameter twice.", {
      details: { errors: [{ field, constraint: "unique", message: "may be given once" }] },
    });
  }
  const result = schema.safeParse(Object.fromEntries(query), { reportInput: true });
  if (result.success) return result.data;
  throw invalidRequest(result.error, "The query");
}
