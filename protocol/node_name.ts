/** Names of machines. */
import * as z from "zod";

/** Letters, digits and `. _ -`, so that they can stand in URLs, file names and on command lines. */
export const NodeName: z.ZodType<string> = z.string().regex(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
  "not a valid node name",
);
